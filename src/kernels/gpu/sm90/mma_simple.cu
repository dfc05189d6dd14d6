// Tensor-core products of the types of 32-element blocks.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_simple(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                       uint32_t grid_tiles, const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case Q8_0:
      return launch_mma_type<Q8_0>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
