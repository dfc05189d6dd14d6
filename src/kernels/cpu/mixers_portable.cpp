#include "kernels/cpu/mixer_table.h"
#include "kernels/cpu/simd_portable.h"

namespace dw::cpu {
const MixerKernels* mixer_kernels_portable() {
  return &kMixerKernels<VecPortable>;
}
}  // namespace dw::cpu
