// Unpackers of the K types and IQ4_XS (256-column blocks), for S = Simd512 or Simd256; see
// matmul_unpack_simple.h.
#pragma once

#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// Four groups' scales (or mins) from the four bytes of each lane.
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_scales(typename S::Int bytes, int group, int lane, Panel& panel) {
  if constexpr (i < 4) {
    S::store(panel.scales[group + i] + lane, S::and_bits(S::template right<8 * i>(bytes), S::set32(255)));
    store_scales<S, i + 1>(bytes, group, lane, panel);
  }
}
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_mins(typename S::Int bytes, int group, int lane, Panel& panel) {
  if constexpr (i < 4) {
    const auto min = S::and_bits(S::template right<8 * i>(bytes), S::set32(255));
    S::store(panel.mins[group + i] + lane, S::to_float(min));
    store_mins<S, i + 1>(bytes, group, lane, panel);
  }
}
// The same, minus an offset.
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_offset_scales(typename S::Int bytes, int offset, int group, int lane,
                                                       Panel& panel) {
  if constexpr (i < 4) {
    const auto scale = S::and_bits(S::template right<8 * i>(bytes), S::set32(255));
    S::store(panel.scales[group + i] + lane, S::add32(scale, S::set32(uint32_t(-offset))));
    store_offset_scales<S, i + 1>(bytes, offset, group, lane, panel);
  }
}

// d, dmin and the 6-bit scales and mins at the head of Q4_K and Q5_K blocks.
template <class S>
[[gnu::always_inline]] inline void unpack_k_head(Rows<S> rows, int lane, Panel& panel) {
  typename S::Int head[4];
  rows.columns4(head);
  S::store(panel.d[0] + lane, S::half_to_float(head[0]));
  S::store(panel.dmin + lane, S::half_to_float(S::template right<16>(head[0])));
  const auto six = S::set8(63), four = S::set8(15), top = S::set8(48);
  store_scales<S>(S::and_bits(head[1], six), 0, lane, panel);
  store_mins<S>(S::and_bits(head[2], six), 0, lane, panel);
  store_scales<S>(S::and_or(head[3], four, S::and_bits(S::template right<2>(head[1]), top)), 4, lane, panel);
  store_mins<S>(
      S::and_or(S::template right<4>(head[3]), four, S::and_bits(S::template right<2>(head[2]), top)), 4,
      lane, panel);
}

template <class S>
void unpack_q4_k(Rows<S> rows, int, int lane, Panel& panel) {
  unpack_k_head<S>(rows, lane, panel);
  const auto mask = S::set8(15);
  for (int begin = 0; begin < 32; begin += S::kLanes) {
    typename S::Int dwords[S::kLanes];
    rows.at(int64_t(offsetof(quant::BlockQ4_K, qs)) + 4 * begin).columns(dwords);
#pragma GCC unroll 16
    for (int i = 0; i < S::kLanes; ++i) {
      const int to = 16 * ((begin + i) / 8) + i % 8;
      S::store(panel.quants[to][lane], S::and_bits(dwords[i], mask));
      S::store(panel.quants[to + 8][lane], S::and_bits(S::template right<4>(dwords[i]), mask));
    }
  }
}

// bit kGroup of each byte, at bit 4
template <class S, int kGroup>
[[gnu::always_inline]] inline typename S::Int fifth_bits(typename S::Int high) {
  if constexpr (kGroup <= 4)
    return S::and_bits(S::template left<4 - kGroup>(high), S::set8(16));
  else
    return S::and_bits(S::template right<kGroup - 4>(high), S::set8(16));
}

template <class S, int kPair = 0>
[[gnu::always_inline]] inline void unpack_q5_k_pairs(Rows<S> rows, const typename S::Int (&high)[8], int lane,
                                                     Panel& panel) {
  if constexpr (kPair < 4) {
    const auto mask = S::set8(15);
    typename S::Int dwords[8];
    const auto from = rows.at(int64_t(offsetof(quant::BlockQ5_K, qs)) + 32 * kPair);
    from.columns4(dwords);
    from.at(16).columns4(dwords + 4);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      S::store(panel.quants[16 * kPair + i][lane],
               S::and_or(dwords[i], mask, fifth_bits<S, 2 * kPair>(high[i])));
      S::store(panel.quants[16 * kPair + 8 + i][lane],
               S::and_or(S::template right<4>(dwords[i]), mask, fifth_bits<S, 2 * kPair + 1>(high[i])));
    }
    unpack_q5_k_pairs<S, kPair + 1>(rows, high, lane, panel);
  }
}

template <class S>
void unpack_q5_k(Rows<S> rows, int, int lane, Panel& panel) {
  unpack_k_head<S>(rows, lane, panel);
  typename S::Int high[8];
  const auto from = rows.at(int64_t(offsetof(quant::BlockQ5_K, qh)));
  from.columns4(high);
  from.at(16).columns4(high + 4);
  unpack_q5_k_pairs<S>(rows, high, lane, panel);
}

// The signed bytes of each lane as four groups' scales.
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_signed_scales(typename S::Int bytes, int group, int lane,
                                                       Panel& panel) {
  if constexpr (i < 4) {
    S::store(panel.scales[group + i] + lane,
             S::template right_signed<24>(S::template left<24 - 8 * i>(bytes)));
    store_signed_scales<S, i + 1>(bytes, group, lane, panel);
  }
}

template <class S>
void unpack_q6_k(Rows<S> rows, int, int lane, Panel& panel) {
  S::store(panel.d[0] + lane, S::half_to_float(rows.at(int64_t(offsetof(quant::BlockQ6_K, d))).column16()));
  typename S::Int scales[4];
  rows.at(int64_t(offsetof(quant::BlockQ6_K, scales))).columns4(scales);
  for (int i = 0; i < 4; ++i) store_signed_scales<S>(scales[i], 4 * i, lane, panel);
  const auto four = S::set8(15), top = S::set8(48);
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 2; ++quarter) {  // of 16 elements l
      typename S::Int first[4], second[4], high[4];
      rows.at(64 * half + 16 * quarter).columns4(first);
      rows.at(64 * half + 32 + 16 * quarter).columns4(second);
      rows.at(int64_t(offsetof(quant::BlockQ6_K, qh)) + 32 * half + 16 * quarter).columns4(high);
      auto* to = panel.quants + 32 * half + 4 * quarter;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        S::store(to[i][lane], S::and_or(first[i], four, S::and_bits(S::template left<4>(high[i]), top)));
        S::store(to[8 + i][lane], S::and_or(second[i], four, S::and_bits(S::template left<2>(high[i]), top)));
        S::store(to[16 + i][lane],
                 S::and_or(S::template right<4>(first[i]), four, S::and_bits(high[i], top)));
        S::store(to[24 + i][lane], S::and_or(S::template right<4>(second[i]), four,
                                             S::and_bits(S::template right<2>(high[i]), top)));
      }
    }
  }
}

// 32 elements of Q2_K: bits 2 kPart of 8 dwords, times the scales of their two groups of 16 (in both 16-bit
// halves of each lane: products are below 256, so bytes do not disturb each other).
template <class S, int kPart = 0>
[[gnu::always_inline]] inline void unpack_q2_k_parts(const typename S::Int* dwords,
                                                     const typename S::Int (&scales)[8], int column4,
                                                     int lane, Panel& panel) {
  if constexpr (kPart < 4) {
    const auto mask = S::set8(3);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const auto quants = S::and_bits(S::template right<2 * kPart>(dwords[i]), mask);
      S::store(panel.quants[column4 + 8 * kPart + i][lane], S::multiply16(quants, scales[2 * kPart + i / 4]));
    }
    unpack_q2_k_parts<S, kPart + 1>(dwords, scales, column4, lane, panel);
  }
}

// The low nibble of byte i of each lane, in both 16-bit halves.
template <class S, int i = 0>
[[gnu::always_inline]] inline void spread_scales(typename S::Int bytes, typename S::Int* out) {
  if constexpr (i < 4) {
    const auto scale = S::and_bits(S::template right<8 * i>(bytes), S::set32(15));
    out[i] = S::or_bits(scale, S::template left<16>(scale));
    spread_scales<S, i + 1>(bytes, out);
  }
}

template <class S>
void unpack_q2_k(Rows<S> rows, int, int lane, Panel& panel) {
  const auto d = rows.at(int64_t(offsetof(quant::BlockQ2_K, d))).column();
  S::store(panel.d[0] + lane, S::half_to_float(d));
  S::store(panel.dmin + lane, S::half_to_float(S::template right<16>(d)));
  typename S::Int packed[4];
  rows.columns4(packed);
  const auto four = S::set8(15);
  for (int i = 0; i < 4; ++i)
    store_mins<S>(S::and_bits(S::template right<4>(packed[i]), four), 4 * i, lane, panel);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    typename S::Int dwords[8], scales[8];
    const auto from = rows.at(int64_t(offsetof(quant::BlockQ2_K, qs)) + 32 * half);
    from.columns4(dwords);
    from.at(16).columns4(dwords + 4);
    spread_scales<S>(packed[2 * half], scales);
    spread_scales<S>(packed[2 * half + 1], scales + 4);
    unpack_q2_k_parts<S>(dwords, scales, 32 * half, lane, panel);
  }
}

// bit kBit of each byte, at bit 2
template <class S, int kBit>
[[gnu::always_inline]] inline typename S::Int third_bits(typename S::Int high) {
  if constexpr (kBit <= 2)
    return S::and_bits(S::template left<2 - kBit>(high), S::set8(4));
  else
    return S::and_bits(S::template right<kBit - 2>(high), S::set8(4));
}

template <class S, int kHalf, int kPart = 0>
[[gnu::always_inline]] inline void unpack_q3_k_parts(const typename S::Int (&dwords)[8],
                                                     const typename S::Int (&high)[8], int lane,
                                                     Panel& panel) {
  if constexpr (kPart < 4) {
    const auto mask = S::set8(3);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i)
      S::store(panel.quants[32 * kHalf + 8 * kPart + i][lane],
               S::and_or(S::template right<2 * kPart>(dwords[i]), mask,
                         third_bits<S, 4 * kHalf + kPart>(high[i])));
    unpack_q3_k_parts<S, kHalf, kPart + 1>(dwords, high, lane, panel);
  }
}

template <class S>
[[gnu::always_inline]] inline void unpack_q3_k_scales(Rows<S> rows, int lane, Panel& panel) {
  // The 16 bytes that end with the block: two of qs, the 12 of the scales, d.
  typename S::Int tail[4];
  rows.at(int64_t(sizeof(quant::BlockQ3_K)) - 16).columns4(tail);
  typename S::Int words[3];
  for (int i = 0; i < 3; ++i)
    words[i] = S::or_bits(S::template right<16>(tail[i]), S::template left<16>(tail[i + 1]));
  S::store(panel.d[0] + lane, S::half_to_float(S::template right<16>(tail[3])));
  const auto four = S::set8(15), top = S::set8(48);
  const auto put = [&](auto low, auto high, int group) {
    store_offset_scales<S>(S::and_or(low, four, S::and_bits(high, top)), 32, group, lane, panel);
  };
  put(words[0], S::template left<4>(words[2]), 0);
  put(words[1], S::template left<2>(words[2]), 4);
  put(S::template right<4>(words[0]), words[2], 8);
  put(S::template right<4>(words[1]), S::template right<2>(words[2]), 12);
}

template <class S>
void unpack_q3_k(Rows<S> rows, int, int lane, Panel& panel) {
  unpack_q3_k_scales<S>(rows, lane, panel);
  typename S::Int high[8], dwords[8];
  rows.columns4(high);
  rows.at(16).columns4(high + 4);
  const auto from = rows.at(int64_t(offsetof(quant::BlockQ3_K, qs)));
  from.columns4(dwords);
  from.at(16).columns4(dwords + 4);
  unpack_q3_k_parts<S, 0>(dwords, high, lane, panel);
  from.at(32).columns4(dwords);
  from.at(48).columns4(dwords + 4);
  unpack_q3_k_parts<S, 1>(dwords, high, lane, panel);
}

template <class S>
void unpack_q8_k(Rows<S> rows, int, int lane, Panel& panel) {
  const auto flip = S::set8(0x80);
  S::store(panel.d[0] + lane, S::as_float(rows.column()));
  for (int begin = 0; begin < 64; begin += 4) {
    typename S::Int dwords[4];
    rows.at(int64_t(offsetof(quant::BlockQ8_K, qs)) + 4 * begin).columns4(dwords);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) S::store(panel.quants[begin + i][lane], S::xor_bits(dwords[i], flip));
  }
}

template <class S, int kBlock = 0>
[[gnu::always_inline]] inline void unpack_iq4_xs_scales(typename S::Int head, typename S::Int low, int lane,
                                                        Panel& panel) {
  if constexpr (kBlock < 8) {
    const auto high = S::and_bits(S::template right<16 + 2 * kBlock>(head), S::set32(3));
    const auto scale = S::and_or(S::template right<4 * kBlock>(low), S::set32(15), S::template left<4>(high));
    S::store(panel.scales[kBlock] + lane, S::add32(scale, S::set32(uint32_t(-32))));
    unpack_iq4_xs_scales<S, kBlock + 1>(head, low, lane, panel);
  }
}

template <class S>
void unpack_iq4_xs(Rows<S> rows, int, int lane, Panel& panel) {
  typename S::Int head[4];
  rows.columns4(head);
  S::store(panel.d[0] + lane, S::half_to_float(head[0]));
  unpack_iq4_xs_scales<S>(head[0], head[1], lane, panel);
  const auto table = S::xor_bits(S::table16(quant::kIq4NlValues.data()), S::set8(0x80));  // + 128
  for (int b = 0; b < 8; ++b)
    unpack_nibbles<S>(rows.at(int64_t(offsetof(quant::BlockIQ4_XS, qs)) + 16 * b), b, lane, panel,
                      [&](auto nibbles) { return S::lookup(table, nibbles); });
}

}  // namespace
}  // namespace dw::cpu
