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

// Where a sink's prefetches go: the same place in the next tile, and the next block of this one.
struct Ahead {
  const std::byte* next_tile;   // contiguous
  const std::byte* next_block;  // of 16 rows, `stride` apart
  int64_t stride;
};

// Fetches the block of the next tile into the second-level cache (a tile is larger than the first) and the
// next block of this tile into the first. Spread evenly over kCalls calls: a burst would fill the queue of
// outstanding misses.
template <int kBlockBytes, int kCalls>
struct Prefetcher {
  Ahead ahead;
  int calls = 0;
  DW_INLINE void step() {
    constexpr int kLines = (kBlockBytes * int(kRowTile) + 63) / 64;
    for (int line = calls * kLines / kCalls; line < (calls + 1) * kLines / kCalls; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(ahead.next_tile + 64 * line), _MM_HINT_T1);
    // Small blocks share lines with their neighbours in the row: there the hardware's prefetch is enough.
    if constexpr (kBlockBytes >= 64)
      for (int row = calls * kRowTile / kCalls; row < (calls + 1) * kRowTile / kCalls; ++row) {
        const char* from = reinterpret_cast<const char*>(ahead.next_block + row * ahead.stride);
        for (int at = kBlockBytes - 1; at >= 0; at -= 64) _mm_prefetch(from + at, _MM_HINT_T0);
      }
    ++calls;
  }
};

// One unit of a kSuper type.
template <class U>
struct SuperSink {
  static constexpr quant::Type kType = U::kType;
  // Q2_K keeps its integer scales here: 16 products a unit instead of 64.
  static constexpr bool kMultipliesQ2K = false;
  static constexpr Format kFormat = format_of(kType);
  static constexpr bool kScaled = kFormat.scaled || kType == quant::Type::Q2_K;
  static constexpr int kGroup = kType == quant::Type::Q2_K ? 16 : kFormat.group;
  static constexpr int kGroups = kUnitColumns / kGroup;
  static constexpr int kPlanes = planes_of(kType);

  const TokenUnit* token;  // [kPlanes]
  __m512* sums;            // [kPlanes]
  Prefetcher<U::kBlockBytes, kUnitColumns / 4> prefetcher;
  __m512i dots[kPlanes][kGroups];
  int shifts[kGroups] = {};
  __m512 m = _mm512_setzero_ps();

  DW_INLINE SuperSink(const TokenUnit* token_in, const Ahead& ahead, __m512* sums_in)
      : token(token_in), sums(sums_in), prefetcher{ahead} {
    static_assert(kPlanes == 1 || kFormat.min_group == 0);
    unrolled<kPlanes * kGroups>([&](auto i) DW_INLINE_LAMBDA {
      constexpr int p = i / kGroups, g = i % kGroups;
      dots[p][g] = kFormat.offset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(token[p].bias[g]);
    });
  }
  DW_INLINE void quants(int column4, __m512i v) {
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      __m512i& dot = dots[p][column4 * 4 / kGroup];
      dot = _mm512_dpbusd_epi32(dot, v, broadcast_dword(token[p].quants + 4 * column4));
    });
    prefetcher.step();
  }
  // Quants are left where they stand and the sums shifted: for that the types have no offset, and shift all
  // quants of a group alike.
  template <int kBits>
  DW_INLINE void shifted_quants(int column4, __m512i v, __m512i mask) {
    static_assert(kFormat.offset == 0);
    quants(column4, _mm512_and_si512(v, _mm512_slli_epi16(mask, kBits)));
    shifts[column4 * 4 / kGroup] = kBits;
  }
  DW_INLINE void scale(int group, __m512i v) {
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      __m512i& dot = dots[p][group];
      if (shifts[group] != 0) dot = _mm512_srai_epi32(dot, unsigned(shifts[group]));
      dot = _mm512_mullo_epi32(dot, v);
    });
  }
  DW_INLINE void min(int group, __m512 v) { m = _mm512_fmadd_ps(v, _mm512_set1_ps(token->sums[group]), m); }
  DW_INLINE void d(int, __m512 v) {
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      __m512 s = _mm512_setzero_ps();
      unrolled<kUnitBlocks>([&](auto b) DW_INLINE_LAMBDA {
        constexpr int kParts = 32 / kGroup;
        __m512i integers = dots[p][kParts * b];
        if constexpr (kParts == 2) integers = _mm512_add_epi32(integers, dots[p][2 * b + 1]);
        s = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers), _mm512_set1_ps(token[p].scales[b]), s);
      });
      sums[p] = _mm512_fmadd_ps(v, s, sums[p]);
    });
  }
  DW_INLINE void dmin(__m512 v) { *sums = _mm512_fnmadd_ps(v, m, *sums); }
};

// One block of a kBlock type.
template <class U>
struct BlockSink {
  static constexpr quant::Type kType = U::kType;
  static constexpr int kPlanes = planes_of(kType);
  const TokenUnit* token;  // [kPlanes]
  __m512* sums;            // [kPlanes]
  Prefetcher<U::kBlockBytes, 8> prefetcher;
  __m512i dots[kPlanes];
  __m512i shifted_dot = _mm512_setzero_si512();
  int shift = 0;
  __m512 scaled_min = _mm512_setzero_ps();

  DW_INLINE BlockSink(const TokenUnit* token_in, int b, const Ahead& ahead, __m512* sums_in)
      : token(token_in), sums(sums_in), prefetcher{ahead} {
    static_assert(kPlanes == 1 || format_of(kType).min_group == 0);
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      dots[p] = format_of(kType).offset == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(token[p].bias[b]);
    });
  }
  DW_INLINE void quants(int column4, __m512i v) {
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      dots[p] = _mm512_dpbusd_epi32(dots[p], v, broadcast_dword(token[p].quants + 4 * column4));
    });
    prefetcher.step();
  }
  template <int kBits>
  DW_INLINE void shifted_quants(int column4, __m512i v, __m512i mask) {
    static_assert(kPlanes == 1);
    const __m512i quants = _mm512_and_si512(v, _mm512_slli_epi16(mask, kBits));
    shifted_dot = _mm512_dpbusd_epi32(shifted_dot, quants, broadcast_dword(token->quants + 4 * column4));
    shift = kBits;
    prefetcher.step();
  }
  DW_INLINE void min(int, __m512 v) { scaled_min = v; }
  DW_INLINE void d(int b, __m512 v) {
    if (shift != 0) dots[0] = _mm512_add_epi32(dots[0], _mm512_srai_epi32(shifted_dot, unsigned(shift)));
    unrolled<kPlanes>([&](auto p) DW_INLINE_LAMBDA {
      const __m512 scale = _mm512_mul_ps(v, _mm512_set1_ps(token[p].scales[b]));
      sums[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[p]), scale, sums[p]);
    });
    if constexpr (format_of(kType).min_group != 0)
      *sums = _mm512_fmadd_ps(scaled_min, _mm512_set1_ps(token->sums[b]), *sums);
  }
};

template <class U>
void gemv(const std::byte* rows, int64_t stride, int64_t columns, const TokenUnit* token,
          const std::byte* next, float* sums) {
  constexpr int kPlanes = planes_of(U::kType);
  __m512 sum[kPlanes];
  for (auto& plane : sum) plane = _mm512_setzero_ps();
  constexpr int kBytes = U::kBlockBytes;
  Rows<Simd512> from{rows, stride};
  if constexpr (format_of(U::kType).scaling == Scaling::kSuper) {
    for (int64_t unit = 0; unit < columns / kUnitColumns; ++unit) {
      const Ahead ahead{next + unit * kBytes * kRowTile, from.data + kBytes, stride};
      SuperSink<U> sink(token + unit * kPlanes, ahead, sum);
      U::Unpack::block(from, 0, sink);
      from = from.at(kBytes).opaque();
    }
  } else {
    for (int64_t block = 0; block < columns / 32; ++block) {
      const int b = int(block % kUnitBlocks);
      const Ahead ahead{next + block * kBytes * kRowTile, from.data + kBytes, stride};
      BlockSink<U> sink(token + block / kUnitBlocks * kPlanes, b, ahead, sum);
      U::Unpack::block(from, b, sink);
      from = from.at(kBytes).opaque();
    }
  }
  if constexpr (kPlanes == 2) sum[0] = _mm512_add_ps(sum[0], sum[1]);
  _mm512_store_ps(sums, sum[0]);
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
