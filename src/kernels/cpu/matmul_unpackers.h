// The unpacker of each type for S = Simd512 or Simd256; internal linkage, as matmul_unpack_simple.h.
#pragma once

#include "kernels/cpu/matmul_unpack_iq.h"
#include "kernels/cpu/matmul_unpack_k.h"
#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// All 16 rows, kLanes at a time.
template <class S, void (*kUnpack)(Rows<S>, int, int, Panel&)>
void unpack_tile(const std::byte* rows, int64_t stride, int blocks, Panel& panel) {
  for (int lane = 0; lane < kRowTile; lane += S::kLanes)
    kUnpack({rows + lane * stride, stride}, blocks, lane, panel);
}

template <class S>
UnpackFn find_unpacker(quant::Type type) {
  using enum quant::Type;
  switch (type) {
    case Q8_0:
      return unpack_tile<S, unpack_q8_0<S>>;
    case Q4_0:
      return unpack_tile<S, unpack_q4_0<S>>;
    case Q4_1:
      return unpack_tile<S, unpack_q4_1<S>>;
    case Q5_0:
      return unpack_tile<S, unpack_q5_0<S>>;
    case Q5_1:
      return unpack_tile<S, unpack_q5_1<S>>;
    case IQ4_NL:
      return unpack_tile<S, unpack_iq4_nl<S>>;
    case MXFP4:
      return unpack_tile<S, unpack_mxfp4<S>>;
    case Q2_K:
      return unpack_tile<S, unpack_q2_k<S>>;
    case Q3_K:
      return unpack_tile<S, unpack_q3_k<S>>;
    case Q4_K:
      return unpack_tile<S, unpack_q4_k<S>>;
    case Q5_K:
      return unpack_tile<S, unpack_q5_k<S>>;
    case Q6_K:
      return unpack_tile<S, unpack_q6_k<S>>;
    case Q8_K:
      return unpack_tile<S, unpack_q8_k<S>>;
    case IQ4_XS:
      return unpack_tile<S, unpack_iq4_xs<S>>;
    case IQ2_XXS:
      return unpack_tile<S, unpack_iq2_xxs<S>>;
    case IQ2_XS:
      return unpack_tile<S, unpack_iq2_xs<S>>;
    case IQ2_S:
      return unpack_tile<S, unpack_iq2_s<S>>;
    case IQ3_XXS:
      return unpack_tile<S, unpack_iq3_xxs<S>>;
    case IQ3_S:
      return unpack_tile<S, unpack_iq3_s<S>>;
    case IQ1_S:
      return unpack_tile<S, unpack_iq1_s<S>>;
    case IQ1_M:
      return unpack_tile<S, unpack_iq1_m<S>>;
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace dw::cpu
