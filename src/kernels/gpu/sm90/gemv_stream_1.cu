#include "kernels/gpu/sm90/gemv_stream.h"

namespace dw::gpu {

template void launch_gemv_stream<1, 1>(Context&, const Work&, const GemvArguments&, GemvRing, size_t);
template void launch_gemv_stream<1, 2>(Context&, const Work&, const GemvArguments&, GemvRing, size_t);
template void launch_gemv_stream<1, 4>(Context&, const Work&, const GemvArguments&, GemvRing, size_t);

}  // namespace dw::gpu
