// Unpackers of the grid types (IQ1, IQ2, IQ3), for S = Simd512 or Simd256; see matmul_unpack_simple.h. The
// grids are looked up row by row, 4 kLanes columns at a time, and the rows then transposed.
#pragma once

#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// A piece is 4 kLanes columns of one row: kWords grid entries of 8 columns.
template <class S>
inline constexpr int kPieceWords = S::kLanes / 2;

// Source::piece(block, first word) gives a piece's quants.
template <class S, class Source>
[[gnu::always_inline]] inline void unpack_pieces(Rows<S> rows, int lane, Panel& panel, const Source& source) {
  for (int word = 0; word < 32; word += kPieceWords<S>) {
    typename S::Int in[S::kLanes], out[S::kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < S::kLanes; ++r) in[r] = source(rows.data + r * rows.stride, word);
    S::transpose(in, out);
#pragma GCC unroll 16
    for (int i = 0; i < S::kLanes; ++i) S::store(panel.quants[2 * word + i][lane], out[i]);
  }
}

template <class S>
[[gnu::always_inline]] inline void store_odd_scale(typename S::Int scale, int group, int lane, Panel& panel) {
  S::store(panel.scales[group] + lane, S::add32(S::add32(scale, scale), S::set32(1)));  // 2 scale + 1
}

// Eight scales from the nibbles of each lane.
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_nibble_scales(typename S::Int nibbles, int group, int lane,
                                                       Panel& panel) {
  if constexpr (i < 8) {
    store_odd_scale<S>(S::and_bits(S::template right<4 * i>(nibbles), S::set32(15)), group + i, lane, panel);
    store_nibble_scales<S, i + 1>(nibbles, group, lane, panel);
  }
}

template <class S>
[[gnu::always_inline]] inline void store_d(typename S::Int half, float factor, int lane, Panel& panel) {
  S::store(panel.d[0] + lane, S::multiply(S::half_to_float(half), S::set(factor)));
}

// The quants of a piece: magnitudes with signs, plus an offset.
template <class S>
[[gnu::always_inline]] inline typename S::Int signed_piece(const uint64_t (&words)[kPieceWords<S>],
                                                           uint64_t signs, int offset) {
  return S::apply_signs(S::combine(words), signs, S::set8(offset));
}

template <class S>
void unpack_iq2_xxs(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 0.125f, lane, panel);
  for (int s = 0; s < 8; s += 2) {
    typename S::Int dwords[4];
    rows.at(2 + 8 * s).columns4(dwords);
    store_odd_scale<S>(S::template right<28>(dwords[1]), s, lane, panel);
    store_odd_scale<S>(S::template right<28>(dwords[3]), s + 1, lane, panel);
  }
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>], signs = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const std::byte* part = block + 2 + 8 * ((first + i) / 4);
      words[i] = quant::kIq2xxsGrid[S::template load<uint8_t>(part + i % 4)];
      const uint32_t rest = S::template load<uint32_t>(part + 4);
      signs |= uint64_t(quant::kIqSigns[(rest >> (7 * (i % 4))) & 127]) << (8 * i);
    }
    return signed_piece<S>(words, signs, 64);
  });
}

template <class S>
void unpack_iq2_xs(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 0.125f, lane, panel);
  store_nibble_scales<S>(rows.at(66).column(), 0, lane, panel);
  store_nibble_scales<S>(rows.at(70).column(), 8, lane, panel);
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>], signs = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const uint32_t code = S::template load<uint16_t>(block + 2 + 2 * (first + i));
      words[i] = quant::kIq2xsGrid[code & 511];
      signs |= uint64_t(quant::kIqSigns[code >> 9]) << (8 * i);
    }
    return signed_piece<S>(words, signs, 64);
  });
}

// kPieceWords sign bytes, as they are stored.
template <class S>
[[gnu::always_inline]] inline uint64_t load_signs(const std::byte* signs) {
  if constexpr (kPieceWords<S> == 8)
    return S::template load<uint64_t>(signs);
  else
    return S::template load<uint32_t>(signs);
}

template <class S>
void unpack_iq2_s(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 0.125f, lane, panel);
  store_nibble_scales<S>(rows.at(74).column(), 0, lane, panel);
  store_nibble_scales<S>(rows.at(78).column(), 8, lane, panel);
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>];
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const uint32_t high = S::template load<uint8_t>(block + 66 + (first + i) / 4);
      const uint32_t low = S::template load<uint8_t>(block + 2 + first + i);
      words[i] = quant::kIq2sGrid[low | ((high >> (2 * (i % 4))) & 3) << 8];
    }
    return signed_piece<S>(words, load_signs<S>(block + 34 + first), 64);
  });
}

template <class S>
void unpack_iq3_xxs(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 0.25f, lane, panel);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    typename S::Int dwords[4];
    rows.at(66 + 16 * half).columns4(dwords);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      store_odd_scale<S>(S::template right<28>(dwords[i]), 4 * half + i, lane, panel);
  }
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>], signs = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const std::byte* index = block + 2 + 2 * (first + i);
      words[i] = quant::kIq3xxsGrid[S::template load<uint8_t>(index)] |
                 uint64_t(quant::kIq3xxsGrid[S::template load<uint8_t>(index + 1)]) << 32;
      const uint32_t rest = S::template load<uint32_t>(block + 66 + 4 * ((first + i) / 4));
      signs |= uint64_t(quant::kIqSigns[(rest >> (7 * (i % 4))) & 127]) << (8 * i);
    }
    return signed_piece<S>(words, signs, 64);
  });
}

template <class S>
void unpack_iq3_s(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 1.0f, lane, panel);
  store_nibble_scales<S>(rows.at(106).column(), 0, lane, panel);
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>];
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const std::byte* index = block + 2 + 2 * (first + i);
      const uint32_t high = S::template load<uint8_t>(block + 66 + (first + i) / 4) >> (2 * (i % 4));
      words[i] = quant::kIq3sGrid[S::template load<uint8_t>(index) | (high & 1) << 8] |
                 uint64_t(quant::kIq3sGrid[S::template load<uint8_t>(index + 1) | (high & 2) << 7]) << 32;
    }
    return signed_piece<S>(words, load_signs<S>(block + 74 + first), 16);
  });
}

// 8 grid +- 1 + 16; a byte of `minus` is 255 where the delta is negative.
template <class S>
[[gnu::always_inline]] inline typename S::Int iq1_piece(const uint64_t (&words)[kPieceWords<S>],
                                                        uint64_t minus) {
  const auto delta = S::apply_signs(S::set8(1), minus, S::set8(16));
  return S::add8(S::and_bits(S::template left<3>(S::combine(words)), S::set8(0xf8)), delta);
}

template <class S>
void unpack_iq1_s(Rows<S> rows, int, int lane, Panel& panel) {
  store_d<S>(rows.column16(), 0.125f, lane, panel);
  typename S::Int dwords[4];
  rows.at(34).columns4(dwords);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store_odd_scale<S>(S::and_bits(S::template right<12>(dwords[i]), S::set32(7)), 2 * i, lane, panel);
    store_odd_scale<S>(S::and_bits(S::template right<28>(dwords[i]), S::set32(7)), 2 * i + 1, lane, panel);
  }
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>], minus = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const uint32_t top = S::template load<uint16_t>(block + 34 + 2 * ((first + i) / 4));
      const uint32_t low = S::template load<uint8_t>(block + 2 + first + i);
      words[i] = quant::kIq1Grid[low | ((top >> (3 * (i % 4))) & 7) << 8];
      minus |= uint64_t(top & 0x8000 ? 255 : 0) << (8 * i);
    }
    return iq1_piece<S>(words, minus);
  });
}

// Four 3-bit scales in each 16-bit half of the lanes.
template <class S, int i = 0>
[[gnu::always_inline]] inline void store_iq1_m_scales(typename S::Int words, int group, int lane,
                                                      Panel& panel) {
  if constexpr (i < 8) {
    const auto scale = S::and_bits(S::template right<16 * (i / 4) + 3 * (i % 4)>(words), S::set32(7));
    store_odd_scale<S>(scale, group + i, lane, panel);
    store_iq1_m_scales<S, i + 1>(words, group, lane, panel);
  }
}

template <class S>
void unpack_iq1_m(Rows<S> rows, int, int lane, Panel& panel) {
  const auto low = rows.at(48).column(), high = rows.at(52).column();
  store_iq1_m_scales<S>(low, 0, lane, panel);
  store_iq1_m_scales<S>(high, 8, lane, panel);
  const auto nibble = [](auto shifted, uint32_t mask) { return S::and_bits(shifted, S::set32(mask)); };
  const auto d = S::or_bits(
      S::or_bits(nibble(S::template right<12>(low), 0x000f), nibble(S::template right<24>(low), 0x00f0)),
      S::or_bits(nibble(S::template right<4>(high), 0x0f00), nibble(S::template right<16>(high), 0xf000)));
  store_d<S>(d, 0.125f, lane, panel);
  unpack_pieces(rows, lane, panel, [](const std::byte* block, int first) {
    uint64_t words[kPieceWords<S>], minus = 0;
#pragma GCC unroll 8
    for (int i = 0; i < kPieceWords<S>; ++i) {
      const uint32_t top = S::template load<uint8_t>(block + 32 + (first + i) / 2) >> (4 * (i % 2));
      const uint32_t low_bits = S::template load<uint8_t>(block + first + i);
      words[i] = quant::kIq1Grid[low_bits | (top & 7) << 8];
      minus |= uint64_t(top & 8 ? 255 : 0) << (8 * i);
    }
    return iq1_piece<S>(words, minus);
  });
}

}  // namespace
}  // namespace dw::cpu
