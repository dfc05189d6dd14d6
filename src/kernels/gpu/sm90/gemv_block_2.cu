#include "kernels/gpu/sm90/gemv_block.h"

namespace dw::gpu {

template void launch_gemv_block<2>(Context&, const Work&, const GemvArguments&, GemvRing, size_t);

}  // namespace dw::gpu
