// The kernel behind gemv(), one instance a token count (gemv_1.cu and its siblings).
#pragma once

#include "kernels/gpu/gemv_arguments.h"
#include "kernels/gpu/gemv_core.h"
#include "kernels/gpu/launch.h"

namespace dw::gpu {

// Rows that go together and sets of loads in flight: activations are read from shared memory once for all
// rows of a set; registers bound rows times sets.
template <int kTokens, class Units>
struct GemvShape {
  static constexpr int kRows = gemv_rows_together(kTokens);
  static constexpr int kDepth = kTokens == 1 ? 2 : 1;
};

template <int kTokens>
DW_DEVICE StagedAny stage(const GemvArguments& a, quant::Type type, uint8_t* shared, float* norm_scales) {
  const int columns = int(a.x.columns);
  const bool fine = is_fine_type(type);
  StagedAny staged;
  staged.rows = StagedRows::at(shared, kTokens, columns / 32, fine);
  staged.floats = reinterpret_cast<const float*>(shared);
  staged.padded = padded_columns(columns);
  if (is_float_type(type))
    stage_floats(reinterpret_cast<float*>(shared), a.x, a.norm, kTokens, norm_scales);
  else if (a.norm.x != nullptr)
    stage_normed(staged.rows, a.norm, kTokens, fine, norm_scales);
  else if (fine)
    stage_values(staged.rows, a.x.values, kTokens, int(a.x.tokens), columns, true, nullptr);
  else
    stage_quantised(staged.rows, a.x, kTokens);
  __syncthreads();
  return staged;
}

template <int kTokens>
__global__ void DW_LAUNCH_BOUNDS(kGemvThreads, gemv_blocks(kTokens))
    gemv_kernel(const DW_GRID_CONSTANT GemvArguments a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float norm_scales[kGemvTokens];
  const int block = int(blockIdx.x);
  int index = 0;
  while (index + 1 < a.count && block >= a.outputs[index + 1].first_block) ++index;
  const GemvOutput& o = a.outputs[index];
  const int first_row = (block - o.first_block) * o.rows_per_block;
  const int row_count = min(o.rows_per_block, o.rows - first_row);
  const uint8_t* rows = o.weight + uint64_t(first_row) * o.row_bytes;
  if (threadIdx.x == 0 && block < a.blocks) prefetch_weights(rows, uint32_t(row_count) * o.row_bytes);
  wait_for_previous();
  allow_next();
  if (a.norm.x != nullptr) {
    row_norms(a.norm, norm_scales);
    if (block == a.blocks) {
      write_normed(a.norm, norm_scales);
      return;
    }
  }
  const StagedAny staged = stage<kTokens>(a, o.type, shared, norm_scales);
  const int tokens = int(a.x.tokens);
  visit_units(o.type, [&](auto units) {
    using Units = decltype(units);
    using Shape = GemvShape<kTokens, Units>;
    const RowLoop<Units, Shape::kRows, kTokens, Shape::kDepth> loop(rows, nullptr, o.row_bytes, row_count,
                                                                    int(a.x.columns));
    loop.run(
        a.tables,
        [&](const auto& decoded, int at, auto& sums) {
          multiply_units<Units, Shape::kRows, kTokens>(decoded, staged, 0, at, sums);
        },
        [&](int row, int token, float total) {
          if (token >= tokens) return;
          float* to = o.out + token * o.out_stride + first_row + row;
          *to = o.add ? *to + total : total;
        });
  });
}

template <int kTokens>
void launch_gemv_kernel(Context& context, const Work& work, const GemvArguments& a, size_t shared) {
  allow_shared_bytes(gemv_kernel<kTokens>, shared);
  launch(context, "gemv_kernel", work, gemv_kernel<kTokens>, dim3(uint32_t(a.blocks + (a.norm.x != nullptr))),
         dim3(kGemvThreads), shared, a);
}

}  // namespace dw::gpu
