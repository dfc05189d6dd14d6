// Tensor-core products of the IQ types of grids.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_iq(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                   uint32_t grid_tiles, const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case IQ2_XXS:
      return launch_mma_type<IQ2_XXS>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ2_XS:
      return launch_mma_type<IQ2_XS>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ2_S:
      return launch_mma_type<IQ2_S>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ3_XXS:
      return launch_mma_type<IQ3_XXS>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ3_S:
      return launch_mma_type<IQ3_S>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ1_S:
      return launch_mma_type<IQ1_S>(context, tile_tokens, job, grid_tiles, name, work);
    case IQ1_M:
      return launch_mma_type<IQ1_M>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
