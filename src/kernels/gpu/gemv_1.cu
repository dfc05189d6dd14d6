#include "kernels/gpu/gemv_kernel.h"

namespace dw::gpu {

void launch_gemv_1(Context& context, const Work& work, const GemvArguments& a, size_t shared) {
  launch_gemv_kernel<1>(context, work, a, shared);
}

}  // namespace dw::gpu
