// Tensor-core products of the types of 32-element blocks.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_simple(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                       uint32_t grid_tiles, const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case Q8_0:
      return launch_mma_type<Q8_0>(context, tile_tokens, job, grid_tiles, name, work);
    case Q4_0:
      return launch_mma_type<Q4_0>(context, tile_tokens, job, grid_tiles, name, work);
    case MXFP4:
      return launch_mma_type<MXFP4>(context, tile_tokens, job, grid_tiles, name, work);
    case Q4_1:
      return launch_mma_type<Q4_1>(context, tile_tokens, job, grid_tiles, name, work);
    case Q5_0:
      return launch_mma_type<Q5_0>(context, tile_tokens, job, grid_tiles, name, work);
    case Q5_1:
      return launch_mma_type<Q5_1>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ4_NL:
      return launch_mma_type<IQ4_NL>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
