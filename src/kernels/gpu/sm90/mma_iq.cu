// Tensor-core products of the IQ types.
#include "kernels/gpu/sm90/mma_launch.h"

namespace dw::gpu {

bool launch_mma_iq(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                   uint32_t grid_tiles, const char* name, const Work& work) {
  using enum quant::Type;
  switch (type) {
    default:
      return false;
  }
}

}  // namespace dw::gpu
