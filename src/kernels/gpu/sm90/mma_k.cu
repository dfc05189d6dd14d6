// Tensor-core products of the K-quants.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_k(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                  const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case Q2_K:
      return launch_mma_type<Q2_K>(context, tile_tokens, job, grid_tiles, name, work);
    case Q3_K:
      return launch_mma_type<Q3_K>(context, tile_tokens, job, grid_tiles, name, work);
    case Q4_K:
      return launch_mma_type<Q4_K>(context, tile_tokens, job, grid_tiles, name, work);
    case Q5_K:
      return launch_mma_type<Q5_K>(context, tile_tokens, job, grid_tiles, name, work);
    case Q6_K:
      return launch_mma_type<Q6_K>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ4_XS:
      return launch_mma_type<IQ4_XS>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
