// Tensor-core products of unquantised matrices.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_float(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                      uint32_t grid_tiles, const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    case F32:
      return launch_mma_type<F32>(context, tile_tokens, job, grid_tiles, name, work);
    case F16:
      return launch_mma_type<F16>(context, tile_tokens, job, grid_tiles, name, work);
    case BF16:
      return launch_mma_type<BF16>(context, tile_tokens, job, grid_tiles, name, work);
    default:
      return false;
  }
}

}  // namespace dw::gpu
