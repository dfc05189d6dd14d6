dw_room(base LIBRARIES Threads::Threads)
dw_room(quant DEPENDS base)
dw_room(gguf DEPENDS quant)
dw_room(kernels/reference DEPENDS quant)
dw_room(kernels/cpu DEPENDS quant)
include(cmake/gpu.cmake)
dw_room(backend DEPENDS kernels/reference kernels/cpu)
if(DW_GPU_BACKEND STREQUAL "none")
  target_sources(dw_backend PRIVATE ${CMAKE_SOURCE_DIR}/src/backend/gpu/absent.cpp)
else()
  dw_gpu_room()
  target_link_libraries(dw_backend PUBLIC dw_gpu)
endif()
dw_room(model DEPENDS backend gguf)
find_package(PkgConfig REQUIRED)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
dw_room(text DEPENDS base LIBRARIES PkgConfig::UTF8PROC)
dw_room(engine DEPENDS model text)
dw_room(profile/names DEPENDS base)
dw_room(profile/capture DEPENDS base LIBRARIES ${CMAKE_DL_LIBS})
dw_room(profile/analysis DEPENDS profile/names)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
dw_room(profile/ingest DEPENDS base LIBRARIES PkgConfig::SQLITE PkgConfig::ZLIB PkgConfig::ZSTD)
if(DW_GPU_BACKEND STREQUAL "cuda")  # compares our declarations of CUPTI with its headers, where the toolkit has them
  find_file(DW_CUPTI_HEADER cupti.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_LIBRARY_ROOT}/extras/CUPTI/include
            NO_DEFAULT_PATH)
  if(DW_CUPTI_HEADER)
    get_filename_component(cupti_folder ${DW_CUPTI_HEADER} DIRECTORY)
    target_include_directories(dw_profile_capture SYSTEM PRIVATE ${cupti_folder} ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_definitions(dw_profile_capture PRIVATE DW_CUPTI_HEADERS)
  endif()
endif()

# Kernels of an instruction set live in files named *_avx2.cpp / *_avx512.cpp.
if(DW_X86)
  file(GLOB avx2_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cpu/*_avx2.cpp)
  set_source_files_properties(${avx2_sources} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
  file(GLOB avx512_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cpu/*_avx512.cpp)
  set_source_files_properties(${avx512_sources} PROPERTIES COMPILE_OPTIONS
    "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vbmi;-mavx512vnni;-mprefer-vector-width=512;$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
  # GCC 12 warns of its own _mm512_undefined_ps() (GCC bug 105593).

  # The unpackers combine bytes in general registers on purpose; GCC's SLP pass would move them into vectors.
  file(GLOB unpacker_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cpu/matmul_*avx*.cpp)
  set_property(SOURCE ${unpacker_sources} APPEND PROPERTY COMPILE_OPTIONS "-fno-tree-slp-vectorize")

  # The same files take minutes to compile with sanitizers; a test of their own (weights that end at unreadable
  # memory) stands guard instead.
  if(DW_SANITIZE)
    set_property(SOURCE ${unpacker_sources} APPEND PROPERTY COMPILE_OPTIONS "-fno-sanitize=all")
  endif()
endif()
