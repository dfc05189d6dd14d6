// The unpacker of each type for S = Simd512 or Simd256; internal linkage, as matmul_unpack_simple.h.
#pragma once

#include "kernels/cpu/matmul_unpack_iq.h"
#include "kernels/cpu/matmul_unpack_k.h"
#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// A type with its unpacker and the bytes of a block.
template <quant::Type kTypeValue, class UnpackBlock, class Block>
struct Unpacker {
  static constexpr quant::Type kType = kTypeValue;
  static constexpr int kBlockBytes = int(sizeof(Block));
  using Unpack = UnpackBlock;
  static constexpr bool kGrid = format_of(kType).scaling == Scaling::kSuper &&
                                (format_of(kType).offset == 16 || format_of(kType).offset == 64);

  template <class S>
  static void tile(const std::byte* rows, int64_t stride, int blocks, Panel& panel) {
    for (int lane = 0; lane < kRowTile; lane += S::kLanes) {
      PanelSink<S> sink{panel, lane};
      const Rows<S> from{rows + lane * stride, stride};
      if constexpr (format_of(kType).scaling == Scaling::kSuper) {
        Unpack::block(from, 0, sink);
      } else {
        for (int b = 0; b < blocks; ++b) Unpack::block(from.at(b * kBlockBytes).opaque(), b, sink);
      }
    }
  }
};

// visit(Unpacker<...>{}) for the type; nothing for types without quants.
template <class Visitor>
void visit_unpacker(quant::Type type, const Visitor& visit) {
  using namespace quant;
  using enum quant::Type;
  switch (type) {
    case Q8_0:
      return visit(Unpacker<Q8_0, UnpackQ8_0, BlockQ8_0>{});
    case Q4_0:
      return visit(Unpacker<Q4_0, UnpackQ4_0, BlockQ4_0>{});
    case Q4_1:
      return visit(Unpacker<Q4_1, UnpackQ4_1, BlockQ4_1>{});
    case Q5_0:
      return visit(Unpacker<Q5_0, UnpackQ5_0, BlockQ5_0>{});
    case Q5_1:
      return visit(Unpacker<Q5_1, UnpackQ5_1, BlockQ5_1>{});
    case IQ4_NL:
      return visit(Unpacker<IQ4_NL, UnpackIQ4_NL, BlockIQ4_NL>{});
    case MXFP4:
      return visit(Unpacker<MXFP4, UnpackMXFP4, BlockMXFP4>{});
    case Q2_K:
      return visit(Unpacker<Q2_K, UnpackQ2_K, BlockQ2_K>{});
    case Q3_K:
      return visit(Unpacker<Q3_K, UnpackQ3_K, BlockQ3_K>{});
    case Q4_K:
      return visit(Unpacker<Q4_K, UnpackQ4_K, BlockQ4_K>{});
    case Q5_K:
      return visit(Unpacker<Q5_K, UnpackQ5_K, BlockQ5_K>{});
    case Q6_K:
      return visit(Unpacker<Q6_K, UnpackQ6_K, BlockQ6_K>{});
    case Q8_K:
      return visit(Unpacker<Q8_K, UnpackQ8_K, BlockQ8_K>{});
    case IQ4_XS:
      return visit(Unpacker<IQ4_XS, UnpackIQ4_XS, BlockIQ4_XS>{});
    case IQ2_XXS:
      return visit(Unpacker<IQ2_XXS, UnpackIQ2_XXS, BlockIQ2_XXS>{});
    case IQ2_XS:
      return visit(Unpacker<IQ2_XS, UnpackIQ2_XS, BlockIQ2_XS>{});
    case IQ2_S:
      return visit(Unpacker<IQ2_S, UnpackIQ2_S, BlockIQ2_S>{});
    case IQ3_XXS:
      return visit(Unpacker<IQ3_XXS, UnpackIQ3_XXS, BlockIQ3_XXS>{});
    case IQ3_S:
      return visit(Unpacker<IQ3_S, UnpackIQ3_S, BlockIQ3_S>{});
    case IQ1_S:
      return visit(Unpacker<IQ1_S, UnpackIQ1_S, BlockIQ1_S>{});
    case IQ1_M:
      return visit(Unpacker<IQ1_M, UnpackIQ1_M, BlockIQ1_M>{});
    default:
      return;
  }
}

template <class S>
UnpackFn find_unpacker(quant::Type type) {
  UnpackFn found = nullptr;
  visit_unpacker(type, [&](auto unpacker) { found = decltype(unpacker)::template tile<S>; });
  return found;
}

}  // namespace
}  // namespace dw::cpu
