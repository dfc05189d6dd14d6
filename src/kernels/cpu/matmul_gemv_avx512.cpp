// One token at the AVX-512 VNNI level: the unpacked quants go straight into the dot products, without a
// panel. The integer dots may be formed in another order than those of matmul_avx512.cpp, the floats may not.
#include <immintrin.h>

#include "kernels/cpu/matmul_lanes_avx512.h"
#include "kernels/cpu/matmul_unpackers.h"

namespace dw::cpu {
namespace {

DW_INLINE __m512i broadcast_dword(const int8_t* quants) {
  int32_t value;
  __builtin_memcpy(&value, quants, sizeof value);
  return _mm512_set1_epi32(value);
}

// One unit of a kSuper type.
template <quant::Type kType>
struct SuperSink {
  // Q2_K keeps its integer scales here: 16 products a unit instead of 64.
  static constexpr bool kMultipliesQ2K = false;
  static constexpr Format kFormat = format_of(kType);
  static constexpr bool kScaled = kFormat.scaled || kType == quant::Type::Q2_K;
  static constexpr int kGroup = kType == quant::Type::Q2_K ? 16 : kFormat.group;
  static constexpr int kGroups = kUnitColumns / kGroup;

  const TokenUnit& token;
  __m512& sum;
  __m512i dots[kGroups];
  __m512 m = _mm512_setzero_ps();

  DW_INLINE SuperSink(const TokenUnit& token_in, __m512& sum_in) : token(token_in), sum(sum_in) {
    unrolled<kGroups>([&](auto g) DW_INLINE_LAMBDA {
      dots[g] = kFormat.offset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(token.bias[g]);
    });
  }
  DW_INLINE void quants(int column4, __m512i v) {
    __m512i& dot = dots[column4 * 4 / kGroup];
    dot = _mm512_dpbusd_epi32(dot, v, broadcast_dword(token.quants + 4 * column4));
  }
  DW_INLINE void scale(int group, __m512i v) { dots[group] = _mm512_mullo_epi32(dots[group], v); }
  DW_INLINE void min(int group, __m512 v) { m = _mm512_fmadd_ps(v, _mm512_set1_ps(token.sums[group]), m); }
  DW_INLINE void d(int, __m512 v) {
    __m512 s = _mm512_setzero_ps();
    unrolled<kUnitBlocks>([&](auto b) DW_INLINE_LAMBDA {
      constexpr int kParts = 32 / kGroup;
      __m512i integers = dots[kParts * b];
      if constexpr (kParts == 2) integers = _mm512_add_epi32(integers, dots[2 * b + 1]);
      s = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(token.scales[b]), s);
    });
    sum = _mm512_fmadd_ps(v, s, sum);
  }
  DW_INLINE void dmin(__m512 v) { sum = _mm512_fnmadd_ps(v, m, sum); }
};

// One block of a kBlock type.
template <quant::Type kType>
struct BlockSink {
  const TokenUnit& token;
  __m512& sum;
  __m512i dot;
  __m512 scaled_min = _mm512_setzero_ps();

  DW_INLINE BlockSink(const TokenUnit& token_in, int b, __m512& sum_in) : token(token_in), sum(sum_in) {
    dot = format_of(kType).offset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(token.bias[b]);
  }
  DW_INLINE void quants(int column4, __m512i v) {
    dot = _mm512_dpbusd_epi32(dot, v, broadcast_dword(token.quants + 4 * column4));
  }
  DW_INLINE void min(int, __m512 v) { scaled_min = v; }
  DW_INLINE void d(int b, __m512 v) {
    const __m512 scale = _mm512_mul_ps(v, _mm512_set1_ps(token.scales[b]));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum);
    if constexpr (format_of(kType).min_group != 0)
      sum = _mm512_fmadd_ps(scaled_min, _mm512_set1_ps(token.sums[b]), sum);
  }
};

// Asks for the bytes of a later tile, into L2: L1 has too few line buffers to keep memory busy (8 GB/s a core
// with T0 on Zen 4, 18 with T1); a tile is contiguous, so one unit's share is too.
DW_INLINE void prefetch(const std::byte* next, int64_t offset, int bytes) {
  for (int at = 0; at < bytes; at += 64)
    _mm_prefetch(reinterpret_cast<const char*>(next + offset + at), _MM_HINT_T1);
}

template <class U>
void gemv(const std::byte* rows, int64_t stride, int64_t columns, const TokenUnit* token,
          const std::byte* next, float* sums) {
  __m512 sum = _mm512_setzero_ps();
  constexpr int kBytes = U::kBlockBytes;
  Rows<Simd512> from{rows, stride};
  if constexpr (format_of(U::kType).scaling == Scaling::kSuper) {
    for (int64_t unit = 0; unit < columns / kUnitColumns; ++unit) {
      prefetch(next, unit * kBytes * kRowTile, kBytes * kRowTile);
      SuperSink<U::kType> sink(token[unit], sum);
      U::Unpack::block(from, 0, sink);
      from = from.at(kBytes).opaque();
    }
  } else {
    for (int64_t block = 0; block < columns / 32; ++block) {
      prefetch(next, block * kBytes * kRowTile, kBytes * kRowTile);
      const int b = int(block % kUnitBlocks);
      BlockSink<U::kType> sink(token[block / kUnitBlocks], b, sum);
      U::Unpack::block(from, b, sink);
      from = from.at(kBytes).opaque();
    }
  }
  _mm512_store_ps(sums, sum);
}

}  // namespace

GemvFn avx512_gemv(quant::Type type) {
  GemvFn found = nullptr;
  visit_unpacker(type, [&](auto unpacker) {
    using U = decltype(unpacker);
    // The grid types are bound by their look-ups: they use the panel.
    if constexpr (!U::kGrid) found = gemv<U>;
  });
  return found;
}

}  // namespace dw::cpu
