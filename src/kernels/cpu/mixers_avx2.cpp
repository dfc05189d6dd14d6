#include "kernels/cpu/mixer_kernels.h"

#ifdef __AVX2__
#include "kernels/cpu/mixer_table.h"
#include "kernels/cpu/simd_avx2.h"
#endif

namespace dw::cpu {
const MixerKernels* mixer_kernels_avx2() {
#ifdef __AVX2__
  return &kMixerKernels<VecAvx2>;
#else
  return nullptr;
#endif
}
}  // namespace dw::cpu
