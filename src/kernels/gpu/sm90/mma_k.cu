// Tensor-core products of the K-quants.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_k(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                  const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case Q4_K:
      return launch_mma_type<Q4_K>(context, tile_tokens, job, grid_tiles, name, work);
    case Q6_K:
      return launch_mma_type<Q6_K>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
