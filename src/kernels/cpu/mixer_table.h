// The table of mixer kernels for one vector type; included once per instruction set.
#pragma once

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/delta_kernels.h"
#include "kernels/cpu/mixer_kernels.h"
#include "kernels/cpu/row_kernels.h"

namespace dw::cpu {

template <class V>
inline constexpr MixerKernels kMixerKernels = {norm_row<V>,       silu_multiply_row<V>, route_row<V>,
                                               delta_task<V>,     attention_store<V>,   attention_task<V>,
                                               attention_merge<V>};

}  // namespace dw::cpu
