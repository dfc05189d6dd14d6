// Launches the tensor-core product for one type of weights; included by one file a family of types only,
// because every type compiles its own kernels.
#pragma once

#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/mma_gemm.h"

namespace dw::gpu {

template <quant::Type kType, int kN>
void launch_mma_tile(Context& context, MmaJob job, uint32_t grid_tiles, const char* name, const Work& work) {
  using Operand = MmaOperand<kType>;
  constexpr size_t kBytes = MmaShared<Operand, kN>::kBytes;
  [[maybe_unused]] static const bool allowed = [] {
    allow_shared_bytes(mma_gemm_kernel<Operand, kN>, kBytes);
    return true;
  }();
  job.inverse_weight_scale = 1.0f / Operand::kScale;
  const dim3 grid(ceil_div(job.row_tiles, job.row_tiles_per_block), grid_tiles);
  launch(context, name, work, mma_gemm_kernel<Operand, kN>, grid, dim3(kMmaThreads), kBytes, job,
         context.tables);
}

// Compiles the tiles that mma_tile_tokens() may name for the type, and no others.
template <quant::Type kType>
bool launch_mma_type(Context& context, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                     const char* name, const Work& work) {
  if (tile_tokens == 64) {
    launch_mma_tile<kType, 64>(context, job, grid_tiles, name, work);
    return true;
  }
  if constexpr (has_all_tiles(kType)) {
    if (tile_tokens == 16) {
      launch_mma_tile<kType, 16>(context, job, grid_tiles, name, work);
      return true;
    }
    if constexpr (!MmaOperand<kType>::kSplit) {
      if (tile_tokens == 128) {
        launch_mma_tile<kType, 128>(context, job, grid_tiles, name, work);
        return true;
      }
      if (tile_tokens == 192) {
        launch_mma_tile<kType, 192>(context, job, grid_tiles, name, work);
        return true;
      }
    }
  }
  return false;
}

}  // namespace dw::gpu
