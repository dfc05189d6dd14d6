// From a type's number to its trait.
#pragma once

#include "kernels/gpu/weights.h"

namespace dw::gpu {

template <quant::Type kType>
struct TypeConstant {
  static constexpr quant::Type value = kType;
};

// visit(TypeConstant<type>{}) for any type that matrices may have; false, and nothing called, for others.
template <class Visit>
__host__ __device__ __forceinline__ bool visit_float_type(quant::Type type, const Visit& visit) {
  using enum quant::Type;
  switch (type) {
    case F32:
      visit(TypeConstant<F32>{});
      return true;
    case F16:
      visit(TypeConstant<F16>{});
      return true;
    case BF16:
      visit(TypeConstant<BF16>{});
      return true;
    default:
      return false;
  }
}
template <class Visit>
__host__ __device__ __forceinline__ bool visit_quantised_type(quant::Type type, const Visit& visit) {
  using enum quant::Type;
  switch (type) {
    case Q8_0:
      visit(TypeConstant<Q8_0>{});
      return true;
    case Q4_0:
      visit(TypeConstant<Q4_0>{});
      return true;
    case Q4_1:
      visit(TypeConstant<Q4_1>{});
      return true;
    case Q5_0:
      visit(TypeConstant<Q5_0>{});
      return true;
    case Q5_1:
      visit(TypeConstant<Q5_1>{});
      return true;
    case Q2_K:
      visit(TypeConstant<Q2_K>{});
      return true;
    case Q3_K:
      visit(TypeConstant<Q3_K>{});
      return true;
    case Q4_K:
      visit(TypeConstant<Q4_K>{});
      return true;
    case Q5_K:
      visit(TypeConstant<Q5_K>{});
      return true;
    case Q6_K:
      visit(TypeConstant<Q6_K>{});
      return true;
    case Q8_K:
      visit(TypeConstant<Q8_K>{});
      return true;
    case IQ1_S:
      visit(TypeConstant<IQ1_S>{});
      return true;
    case IQ1_M:
      visit(TypeConstant<IQ1_M>{});
      return true;
    case IQ2_XXS:
      visit(TypeConstant<IQ2_XXS>{});
      return true;
    case IQ2_XS:
      visit(TypeConstant<IQ2_XS>{});
      return true;
    case IQ2_S:
      visit(TypeConstant<IQ2_S>{});
      return true;
    case IQ3_XXS:
      visit(TypeConstant<IQ3_XXS>{});
      return true;
    case IQ3_S:
      visit(TypeConstant<IQ3_S>{});
      return true;
    case IQ4_NL:
      visit(TypeConstant<IQ4_NL>{});
      return true;
    case IQ4_XS:
      visit(TypeConstant<IQ4_XS>{});
      return true;
    case MXFP4:
      visit(TypeConstant<MXFP4>{});
      return true;
    default:
      return false;
  }
}
// Weights<type>::kFine.
inline constexpr __host__ __device__ bool is_fine_type(quant::Type type) {
  return type == quant::Type::Q8_0 || type == quant::Type::Q6_K || type == quant::Type::Q8_K;
}

template <class Visit>
__host__ __device__ __forceinline__ bool visit_type(quant::Type type, const Visit& visit) {
  return visit_float_type(type, visit) || visit_quantised_type(type, visit);
}

}  // namespace dw::gpu
