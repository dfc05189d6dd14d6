// What gemv() and its kernels agree on; the kernels are compiled apart from each other, one a token count.
#pragma once

#include "kernels/gpu/internal.h"

namespace dw::gpu {

inline constexpr int kGemvThreads = 256;

struct GemvOutput {
  const uint8_t* weight;
  float* out;
  int64_t out_stride;
  uint32_t row_bytes;
  int32_t rows;
  int32_t first_block;
  int32_t rows_per_block;
  int32_t slots;  // rows that a wave handles side by side
  quant::Type type;
  bool add;
};

struct GemvArguments {
  ops::Activations x;
  ops::Norm norm;  // norm.x != nullptr: x is norm.out, computed here
  GemvOutput outputs[kMaxOutputs];
  int32_t count;
  int32_t blocks;  // of outputs; one more where the norm is fused
  IqTables tables;
};

// Rows that go through the kernel for kTokens tokens together, and blocks that a multiprocessor holds.
inline constexpr __host__ __device__ int gemv_rows_together(int tokens) {
  return tokens == 1 ? 1 : tokens == 2 ? 2 : 4;
}
inline constexpr __host__ __device__ int gemv_blocks(int tokens) {
  return tokens <= 2 ? 3 : 2;
}

// Queue the kernel for up to 1, 2, 4 or 8 tokens; shared: bytes of dynamic shared memory.
void launch_gemv_1(Context& context, const Work& work, const GemvArguments& a, size_t shared);
void launch_gemv_2(Context& context, const Work& work, const GemvArguments& a, size_t shared);
void launch_gemv_4(Context& context, const Work& work, const GemvArguments& a, size_t shared);
void launch_gemv_8(Context& context, const Work& work, const GemvArguments& a, size_t shared);

// The same on Hopper (sm90/gemv_stream_*.cu), rows through a ring of a few sets a wave in shared memory.
struct GemvRing {
  uint32_t staged_bytes;  // of activations, before the ring
  int32_t slots;
};
// Instances: 1 token with 1, 2 or 4 rows together; 2, 4 and 8 tokens with 2 or 4.
template <int kTokens, int kRows>
void launch_gemv_stream(Context& context, const Work& work, const GemvArguments& a, GemvRing ring,
                        size_t shared);

// Hopper's kernel for quantised matrices of whole blocks of 256 columns (sm90/gemv_block_*.cu): about one
// block a multiprocessor; o.slots rows make a set, GemvRing::slots sets fit in shared memory.
inline constexpr int kBlockThreads = 384;
inline constexpr int kMaxRingSets = 64;
// Types that it has kernels for; others decode too slowly to gain by it.
inline constexpr __host__ __device__ bool is_block_type(quant::Type type) {
  using enum quant::Type;
  return type == Q4_K || type == Q5_K || type == Q6_K || type == Q8_0 || type == Q2_K || type == Q3_K ||
         type == Q4_0 || type == IQ4_XS || type == MXFP4;
}
template <int kTokens>
void launch_gemv_block(Context& context, const Work& work, const GemvArguments& a, GemvRing ring,
                       size_t shared);
// Bytes of its activations in shared memory.
inline constexpr size_t lane_bytes(int64_t tokens, int64_t columns, bool fine) {
  return size_t(tokens) * size_t(columns / 32) * ((fine ? 64 : 32) + 12);
}

// Bytes of a token's activations in shared memory: staged for quantised weights, fp32 (columns rounded up to
// 8, the rest zero) for others.
inline constexpr __host__ __device__ size_t staged_bytes(int64_t rows, int64_t columns, bool fine) {
  return size_t(rows) * size_t(columns / 32) * (fine ? 64 + 12 : 32 + 12);
}
inline constexpr __host__ __device__ int padded_columns(int columns) {
  return (columns + 7) / 8 * 8;
}

}  // namespace dw::gpu
