// Unpackers of the grid types (IQ1, IQ2, IQ3), for S = Simd512 or Simd256; see matmul_unpack_simple.h. The
// grids are looked up row by row, 4 kLanes columns at a time, and the rows then transposed.
#pragma once

#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// A piece is 4 kLanes columns of one row: kWords grid entries of 8 columns.
template <class S>
inline constexpr int kPieceWords = S::kLanes / 2;

// piece(block, first word) gives a piece's quants.
template <class S, class Sink, class Piece>
DW_INLINE void unpack_pieces(Rows<S> rows, Sink& sink, const Piece& piece) {
  for (int word = 0; word < 32; word += kPieceWords<S>) {
    typename S::Int in[S::kLanes], out[S::kLanes];
    Rows<S> row = rows;
    unrolled<S::kLanes>([&](auto r) DW_INLINE_LAMBDA {
      in[r] = piece(row.data, word);
      row = row.at(row.stride).opaque();
    });
    S::transpose(in, out);
    unrolled<S::kLanes>([&](auto i) DW_INLINE_LAMBDA { sink.quants(2 * word + i, out[i]); });
  }
}

template <class S, class Sink>
DW_INLINE void put_odd_scale(typename S::Int scale, int group, Sink& sink) {
  sink.scale(group, S::add32(S::add32(scale, scale), S::set32(1)));  // 2 scale + 1
}

// Eight scales from the nibbles of each lane.
template <class S, class Sink>
DW_INLINE void put_nibble_scales(typename S::Int nibbles, int group, Sink& sink) {
  unrolled<8>([&](auto i) DW_INLINE_LAMBDA {
    put_odd_scale<S>(S::and_bits(S::template right<4 * i>(nibbles), S::set32(15)), group + i, sink);
  });
}

template <class S, class Sink>
DW_INLINE void put_d(typename S::Int half, float factor, Sink& sink) {
  sink.d(0, S::multiply(S::half_to_float(half), S::set(factor)));
}

// The quants of a piece: magnitudes with signs, plus an offset.
template <class S>
DW_INLINE typename S::Int signed_piece(const uint64_t (&words)[kPieceWords<S>], uint64_t signs, int offset) {
  return S::apply_signs(S::combine(words), signs, S::set8(offset));
}

// Sign bytes as they are stored.
template <class S>
DW_INLINE uint64_t load_signs(const std::byte* signs) {
  if constexpr (kPieceWords<S> == 8)
    return S::template load<uint64_t>(signs);
  else
    return S::template load<uint32_t>(signs);
}

// Four 7-bit sign codes -> four sign bytes.
DW_INLINE uint32_t four_signs(uint32_t codes) {
  return quant::kIqSigns[codes & 127] | uint32_t(quant::kIqSigns[(codes >> 7) & 127]) << 8 |
         uint32_t(quant::kIqSigns[(codes >> 14) & 127]) << 16 |
         uint32_t(quant::kIqSigns[(codes >> 21) & 127]) << 24;
}

struct UnpackIQ2_XXS {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>], signs = 0;
      unrolled<kPieceWords<S> / 4>([&](auto part) DW_INLINE_LAMBDA {
        const auto indices = S::template load<uint32_t>(block + 2 + 2 * first + 8 * part);
        const auto rest = S::template load<uint32_t>(block + 6 + 2 * first + 8 * part);
        unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
          words[4 * part + i] = quant::kIq2xxsGrid[(indices >> (8 * i)) & 255];
        });
        signs |= uint64_t(four_signs(rest)) << (32 * part);
      });
      return signed_piece<S>(words, signs, 64);
    });
    unrolled<4>([&](auto part) DW_INLINE_LAMBDA {
      typename S::Int dwords[4];
      rows.at(2 + 16 * part).columns4(dwords);
      put_odd_scale<S>(S::template right<28>(dwords[1]), 2 * part, sink);
      put_odd_scale<S>(S::template right<28>(dwords[3]), 2 * part + 1, sink);
    });
    put_d<S>(rows.column16(), 0.125f, sink);
  }
};

struct UnpackIQ2_XS {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>], signs = 0;
      unrolled<kPieceWords<S> / 4>([&](auto part) DW_INLINE_LAMBDA {
        const auto codes = S::template load<uint64_t>(block + 2 + 2 * first + 8 * part);
        unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
          words[4 * part + i] = quant::kIq2xsGrid[(codes >> (16 * i)) & 511];
          signs |= uint64_t(quant::kIqSigns[(codes >> (16 * i + 9)) & 127]) << (8 * (4 * part + i));
        });
      });
      return signed_piece<S>(words, signs, 64);
    });
    put_nibble_scales<S>(rows.at(66).column(), 0, sink);
    put_nibble_scales<S>(rows.at(70).column(), 8, sink);
    put_d<S>(rows.column16(), 0.125f, sink);
  }
};

struct UnpackIQ2_S {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>];
      unrolled<kPieceWords<S> / 4>([&](auto part) DW_INLINE_LAMBDA {
        const uint32_t high = S::template load<uint8_t>(block + 66 + first / 4 + part);
        const uint32_t low = S::template load<uint32_t>(block + 2 + first + 4 * part);
        unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
          words[4 * part + i] = quant::kIq2sGrid[((low >> (8 * i)) & 255) | ((high << (8 - 2 * i)) & 0x300)];
        });
      });
      return signed_piece<S>(words, load_signs<S>(block + 34 + first), 64);
    });
    put_nibble_scales<S>(rows.at(74).column(), 0, sink);
    put_nibble_scales<S>(rows.at(78).column(), 8, sink);
    put_d<S>(rows.column16(), 0.125f, sink);
  }
};

struct UnpackIQ3_XXS {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>], signs = 0;
      unrolled<kPieceWords<S>>([&](auto i) DW_INLINE_LAMBDA {
        const uint32_t codes = S::template load<uint16_t>(block + 2 + 2 * (first + i));
        words[i] = quant::kIq3xxsGrid[codes & 255] | uint64_t(quant::kIq3xxsGrid[codes >> 8]) << 32;
      });
      unrolled<kPieceWords<S> / 4>([&](auto part) DW_INLINE_LAMBDA {
        signs |= uint64_t(four_signs(S::template load<uint32_t>(block + 66 + first + 4 * part)))
                 << (32 * part);
      });
      return signed_piece<S>(words, signs, 64);
    });
    unrolled<2>([&](auto half) DW_INLINE_LAMBDA {
      typename S::Int dwords[4];
      rows.at(66 + 16 * half).columns4(dwords);
      unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
        put_odd_scale<S>(S::template right<28>(dwords[i]), 4 * half + i, sink);
      });
    });
    put_d<S>(rows.column16(), 0.25f, sink);
  }
};

struct UnpackIQ3_S {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>];
      unrolled<kPieceWords<S>>([&](auto i) DW_INLINE_LAMBDA {
        const uint32_t codes = S::template load<uint16_t>(block + 2 + 2 * (first + i));
        const uint32_t high = S::template load<uint8_t>(block + 66 + first / 4 + i / 4);
        words[i] = quant::kIq3sGrid[(codes & 255) | ((high << (8 - 2 * (i % 4))) & 256)] |
                   uint64_t(quant::kIq3sGrid[(codes >> 8) | ((high << (7 - 2 * (i % 4))) & 256)]) << 32;
      });
      return signed_piece<S>(words, load_signs<S>(block + 74 + first), 16);
    });
    put_nibble_scales<S>(rows.at(106).column(), 0, sink);
    put_d<S>(rows.column16(), 1.0f, sink);
  }
};

// 8 grid +- 1 + 16; a byte of `minus` is 255 where the delta is negative.
template <class S>
DW_INLINE typename S::Int iq1_piece(const uint64_t (&words)[kPieceWords<S>], uint64_t minus) {
  const auto delta = S::apply_signs(S::set8(1), minus, S::set8(16));
  return S::add8(S::and_bits(S::template left<3>(S::combine(words)), S::set8(0xf8)), delta);
}

struct UnpackIQ1_S {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>], minus = 0;
      unrolled<kPieceWords<S> / 4>([&](auto part) DW_INLINE_LAMBDA {
        const uint32_t top = S::template load<uint16_t>(block + 34 + first / 2 + 2 * part);
        const uint32_t low = S::template load<uint32_t>(block + 2 + first + 4 * part);
        unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
          words[4 * part + i] = quant::kIq1Grid[((low >> (8 * i)) & 255) | ((top >> (3 * i)) & 7) << 8];
        });
        minus |= uint64_t((top >> 15) * 0xffffffffu) << (32 * part);
      });
      return iq1_piece<S>(words, minus);
    });
    typename S::Int dwords[4];
    rows.at(34).columns4(dwords);
    unrolled<8>([&](auto s) DW_INLINE_LAMBDA {
      put_odd_scale<S>(S::and_bits(S::template right<12 + 16 * (s % 2)>(dwords[s / 2]), S::set32(7)), s,
                       sink);
    });
    put_d<S>(rows.column16(), 0.125f, sink);
  }
};

struct UnpackIQ1_M {
  // d, and eight 3-bit scales in each of the two dwords.
  template <class S, class Sink>
  DW_INLINE static void scales(Rows<S> rows, Sink& sink) {
    const typename S::Int words[2] = {rows.at(48).column(), rows.at(52).column()};
    unrolled<16>([&](auto g) DW_INLINE_LAMBDA {
      constexpr int kShift = 16 * (g % 8 / 4) + 3 * (g % 4);
      put_odd_scale<S>(S::and_bits(S::template right<kShift>(words[g / 8]), S::set32(7)), g, sink);
    });
    const auto nibble = [](auto shifted, uint32_t mask)
                            DW_INLINE_LAMBDA { return S::and_bits(shifted, S::set32(mask)); };
    const auto low = S::or_bits(nibble(S::template right<12>(words[0]), 0x000f),
                                nibble(S::template right<24>(words[0]), 0x00f0));
    const auto high = S::or_bits(nibble(S::template right<4>(words[1]), 0x0f00),
                                 nibble(S::template right<16>(words[1]), 0xf000));
    put_d<S>(S::or_bits(low, high), 0.125f, sink);
  }

  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unpack_pieces(rows, sink, [](const std::byte* block, int first) DW_INLINE_LAMBDA {
      uint64_t words[kPieceWords<S>], minus = 0;
      unrolled<kPieceWords<S>>([&](auto i) DW_INLINE_LAMBDA {
        const uint32_t top = S::template load<uint8_t>(block + 32 + first / 2 + i / 2) >> (4 * (i % 2));
        const uint32_t low = S::template load<uint8_t>(block + first + i);
        words[i] = quant::kIq1Grid[low | (top & 7) << 8];
        minus |= uint64_t(((top >> 3) & 1) * 255u) << (8 * i);
      });
      return iq1_piece<S>(words, minus);
    });
    scales(rows, sink);
  }
};

}  // namespace
}  // namespace dw::cpu
