// What the processor can do, read once at run time, and the instruction-set level the CPU kernels pick.
#pragma once

#include <optional>
#include <string_view>

namespace dw {

// Levels are ordered: a kernel for a level runs on every level above it.
//   kPortable: plain C++;  kAvx2: AVX2 + FMA + F16C;  kAvx512: F, BW, VL, DQ + VNNI.
enum class CpuLevel { kPortable, kAvx2, kAvx512 };

CpuLevel detect_cpu_level();
std::string_view cpu_level_name(CpuLevel level);  // "portable", "avx2", "avx512"
std::optional<CpuLevel> parse_cpu_level(std::string_view name);
int physical_core_count();  // cores this process may use, SMT siblings counted once; >= 1

}  // namespace dw
