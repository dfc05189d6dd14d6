#include "kernels/cpu/mixer_kernels.h"

#ifdef __AVX512F__
#include "kernels/cpu/mixer_table.h"
#include "kernels/cpu/simd_avx512.h"
#endif

namespace dw::cpu {
const MixerKernels* mixer_kernels_avx512() {
#ifdef __AVX512F__
  return &kMixerKernels<VecAvx512>;
#else
  return nullptr;
#endif
}
}  // namespace dw::cpu
