// The host side of CUDA and HIP under one set of names: what the GPU device needs of the runtime and no more.
// Functions return RuntimeStatus (launch.h: kRuntimeOk, status_text, check_runtime).
#pragma once

#include "kernels/gpu/launch.h"

namespace dw::gpu {

#if defined(DW_GPU_HIP)
#define DW_RUNTIME(name) hip##name
using Graph = hipGraph_t;
using GraphExec = hipGraphExec_t;
using DeviceProperties = hipDeviceProp_t;
using Event = hipEvent_t;
#else
#define DW_RUNTIME(name) cuda##name
using Graph = cudaGraph_t;
using GraphExec = cudaGraphExec_t;
using DeviceProperties = cudaDeviceProp;
using Event = cudaEvent_t;
#endif

enum class CopyKind { kToDevice, kToHost, kOnDevice };

inline RuntimeStatus device_count(int* count) {
  return DW_RUNTIME(GetDeviceCount)(count);
}
inline RuntimeStatus use_device(int index) {
  return DW_RUNTIME(SetDevice)(index);
}
inline RuntimeStatus device_properties(DeviceProperties* properties, int index) {
  return DW_RUNTIME(GetDeviceProperties)(properties, index);
}
inline RuntimeStatus memory_info(size_t* free_bytes, size_t* total_bytes) {
  return DW_RUNTIME(MemGetInfo)(free_bytes, total_bytes);
}
inline RuntimeStatus allocate_device(void** data, size_t bytes) {
  return DW_RUNTIME(Malloc)(data, bytes);
}
inline RuntimeStatus free_device(void* data) {
  return DW_RUNTIME(Free)(data);
}
// Page-locked host memory.
inline RuntimeStatus allocate_pinned(void** data, size_t bytes) {
#if defined(DW_GPU_HIP)
  return hipHostMalloc(data, bytes, hipHostMallocDefault);
#else
  return cudaMallocHost(data, bytes);
#endif
}
inline RuntimeStatus free_pinned(void* data) {
#if defined(DW_GPU_HIP)
  return hipHostFree(data);
#else
  return cudaFreeHost(data);
#endif
}
inline RuntimeStatus copy(void* to, const void* from, size_t bytes, CopyKind kind, Stream stream) {
  const auto direction = kind == CopyKind::kToDevice ? DW_RUNTIME(MemcpyHostToDevice)
                         : kind == CopyKind::kToHost ? DW_RUNTIME(MemcpyDeviceToHost)
                                                     : DW_RUNTIME(MemcpyDeviceToDevice);
  return DW_RUNTIME(MemcpyAsync)(to, from, bytes, direction, stream);
}
inline RuntimeStatus fill_zero(void* data, size_t bytes, Stream stream) {
  return DW_RUNTIME(MemsetAsync)(data, 0, bytes, stream);
}
inline RuntimeStatus create_stream(Stream* stream) {
  return DW_RUNTIME(StreamCreateWithFlags)(stream, DW_RUNTIME(StreamNonBlocking));
}
inline RuntimeStatus destroy_stream(Stream stream) {
  return DW_RUNTIME(StreamDestroy)(stream);
}
inline RuntimeStatus synchronize(Stream stream) {
  return DW_RUNTIME(StreamSynchronize)(stream);
}
inline RuntimeStatus begin_capture(Stream stream) {
  return DW_RUNTIME(StreamBeginCapture)(stream, DW_RUNTIME(StreamCaptureModeThreadLocal));
}
inline RuntimeStatus end_capture(Stream stream, Graph* graph) {
  return DW_RUNTIME(StreamEndCapture)(stream, graph);
}
inline RuntimeStatus instantiate(GraphExec* exec, Graph graph) {
#if defined(DW_GPU_HIP)
  return hipGraphInstantiate(exec, graph, nullptr, nullptr, 0);
#else
  return cudaGraphInstantiate(exec, graph, 0);
#endif
}
inline RuntimeStatus destroy_graph(Graph graph) {
  return DW_RUNTIME(GraphDestroy)(graph);
}
inline RuntimeStatus destroy_graph(GraphExec exec) {
  return DW_RUNTIME(GraphExecDestroy)(exec);
}
inline RuntimeStatus launch_graph(GraphExec exec, Stream stream) {
  return DW_RUNTIME(GraphLaunch)(exec, stream);
}

}  // namespace dw::gpu
