// Unpackers of the K types and IQ4_XS (256-column blocks), for S = Simd512 or Simd256; see
// matmul_unpack_simple.h.
#pragma once

#include "kernels/cpu/matmul_unpack_simple.h"

namespace dw::cpu {
namespace {

// The four bytes of each lane as the scales, or the mins, of four groups.
template <class S, class Sink>
DW_INLINE void put_scales(typename S::Int bytes, int group, Sink& sink) {
  unrolled<4>([&](auto i) DW_INLINE_LAMBDA { sink.scale(group + i, S::template byte<i>(bytes)); });
}
template <class S, class Sink>
DW_INLINE void put_mins(typename S::Int bytes, int group, Sink& sink) {
  unrolled<4>([&](auto i) DW_INLINE_LAMBDA { sink.min(group + i, S::to_float(S::template byte<i>(bytes))); });
}

// d, dmin and the 6-bit scales and mins at the head of Q4_K and Q5_K blocks.
template <class S, class Sink>
DW_INLINE void unpack_k_head(Rows<S> rows, Sink& sink) {
  typename S::Int head[4];
  rows.columns4(head);
  const auto six = S::set8(63), four = S::set8(15), top = S::set8(48);
  put_scales<S>(S::and_bits(head[1], six), 0, sink);
  put_scales<S>(S::and_or(head[3], four, S::and_bits(S::template right<2>(head[1]), top)), 4, sink);
  put_mins<S>(S::and_bits(head[2], six), 0, sink);
  put_mins<S>(S::and_or(S::template right<4>(head[3]), four, S::and_bits(S::template right<2>(head[2]), top)),
              4, sink);
  sink.d(0, S::half_to_float(head[0]));
  sink.dmin(S::half_to_float(S::template right<16>(head[0])));
}

struct UnpackQ4_K {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    const auto mask = S::set8(15);
    unrolled<4>([&](auto pair) DW_INLINE_LAMBDA {
      typename S::Int dwords[8];
      rows.at(int64_t(offsetof(quant::BlockQ4_K, qs)) + 32 * pair).columns8(dwords);
      unrolled<8>([&](auto i) DW_INLINE_LAMBDA {
        sink.quants(16 * pair + i, S::and_bits(dwords[i], mask));
        sink.template shifted_quants<4>(16 * pair + 8 + i, dwords[i], mask);
      });
    });
    unpack_k_head(rows, sink);
  }
};

// bit kFrom of each byte, at bit kTo
template <class S, int kFrom, int kTo>
DW_INLINE typename S::Int move_bit(typename S::Int bytes) {
  if constexpr (kFrom <= kTo)
    return S::and_bits(S::template left<kTo - kFrom>(bytes), S::set8(1 << kTo));
  else
    return S::and_bits(S::template right<kFrom - kTo>(bytes), S::set8(1 << kTo));
}

struct UnpackQ5_K {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    const auto mask = S::set8(15);
    typename S::Int high[8];
    rows.at(int64_t(offsetof(quant::BlockQ5_K, qh))).columns8(high);
    unrolled<4>([&](auto pair) DW_INLINE_LAMBDA {
      typename S::Int dwords[8];
      rows.at(int64_t(offsetof(quant::BlockQ5_K, qs)) + 32 * pair).columns8(dwords);
      unrolled<8>([&](auto i) DW_INLINE_LAMBDA {
        sink.quants(16 * pair + i, S::and_or(dwords[i], mask, move_bit<S, 2 * pair, 4>(high[i])));
        sink.quants(16 * pair + 8 + i,
                    S::and_or(S::template right<4>(dwords[i]), mask, move_bit<S, 2 * pair + 1, 4>(high[i])));
      });
    });
    unpack_k_head(rows, sink);
  }
};

struct UnpackQ6_K {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    const auto four = S::set8(15), top = S::set8(48);
    unrolled<4>([&](auto part) DW_INLINE_LAMBDA {  // half, and 16 of the 32 elements l
      constexpr int kHalf = part / 2, kQuarter = part % 2;
      typename S::Int first[4], second[4], high[4];
      rows.at(64 * kHalf + 16 * kQuarter).columns4(first);
      rows.at(64 * kHalf + 32 + 16 * kQuarter).columns4(second);
      rows.at(int64_t(offsetof(quant::BlockQ6_K, qh)) + 32 * kHalf + 16 * kQuarter).columns4(high);
      unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
        constexpr int kTo = 32 * kHalf + 4 * kQuarter + i;
        sink.quants(kTo, S::and_or(first[i], four, S::and_bits(S::template left<4>(high[i]), top)));
        sink.quants(kTo + 8, S::and_or(second[i], four, S::and_bits(S::template left<2>(high[i]), top)));
        sink.quants(kTo + 16, S::and_or(S::template right<4>(first[i]), four, S::and_bits(high[i], top)));
        sink.quants(kTo + 24, S::and_or(S::template right<4>(second[i]), four,
                                        S::and_bits(S::template right<2>(high[i]), top)));
      });
    });
    typename S::Int scales[4];
    rows.at(int64_t(offsetof(quant::BlockQ6_K, scales))).columns4(scales);
    unrolled<16>([&](auto g) DW_INLINE_LAMBDA {  // signed bytes
      sink.scale(g, S::template right_signed<24>(S::template left<24 - 8 * (g % 4)>(scales[g / 4])));
    });
    sink.d(0, S::half_to_float(rows.at(int64_t(offsetof(quant::BlockQ6_K, d))).column16()));
  }
};

struct UnpackQ2_K {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    typename S::Int packed[4];
    rows.columns4(packed);
    const auto two = S::set8(3), four = S::set8(15);
    const auto scale_of = [&](auto g) DW_INLINE_LAMBDA {
      return S::template byte<g % 4>(S::and_bits(packed[g / 4], four));
    };
    unrolled<2>([&](auto half) DW_INLINE_LAMBDA {
      typename S::Int dwords[8];
      rows.at(int64_t(offsetof(quant::BlockQ2_K, qs)) + 32 * half).columns8(dwords);
      unrolled<8>([&](auto group) DW_INLINE_LAMBDA {
        constexpr int kPart = group / 2, kGroup = 8 * half + group;
        // The scale in both 16-bit halves: products are below 256, so bytes do not disturb each other.
        typename S::Int scale{};
        if constexpr (Sink::kMultipliesQ2K) {
          scale = scale_of(std::integral_constant<int, kGroup>{});
          scale = S::or_bits(scale, S::template left<16>(scale));
        }
        unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
          const auto from = dwords[4 * (group % 2) + i];
          if constexpr (Sink::kMultipliesQ2K) {
            const auto quants = S::and_bits(S::template right<2 * kPart>(from), two);
            sink.quants(4 * kGroup + i, S::multiply16(quants, scale));
          } else {
            sink.template shifted_quants<2 * kPart>(4 * kGroup + i, from, two);
          }
        });
      });
    });
    if constexpr (!Sink::kMultipliesQ2K)
      unrolled<16>([&](auto g) DW_INLINE_LAMBDA { sink.scale(g, scale_of(g)); });
    unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
      put_mins<S>(S::and_bits(S::template right<4>(packed[i]), four), 4 * i, sink);
    });
    const auto d = rows.at(int64_t(offsetof(quant::BlockQ2_K, d))).column();
    sink.d(0, S::half_to_float(d));
    sink.dmin(S::half_to_float(S::template right<16>(d)));
  }
};

struct UnpackQ3_K {
  template <class S, class Sink>
  DW_INLINE static void scales(Rows<S> rows, Sink& sink) {
    // The 16 bytes that end with the block: two of qs, the 12 of the scales, d.
    typename S::Int tail[4], words[3];
    rows.at(int64_t(sizeof(quant::BlockQ3_K)) - 16).columns4(tail);
    unrolled<3>([&](auto i) DW_INLINE_LAMBDA {
      words[i] = S::or_bits(S::template right<16>(tail[i]), S::template left<16>(tail[i + 1]));
    });
    const auto four = S::set8(15), top = S::set8(48);
    const auto put = [&](auto low, auto high, int group) DW_INLINE_LAMBDA {
      const auto bytes = S::and_or(low, four, S::and_bits(high, top));
      unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
        sink.scale(group + i, S::add32(S::template byte<i>(bytes), S::set32(uint32_t(-32))));
      });
    };
    put(words[0], S::template left<4>(words[2]), 0);
    put(words[1], S::template left<2>(words[2]), 4);
    put(S::template right<4>(words[0]), words[2], 8);
    put(S::template right<4>(words[1]), S::template right<2>(words[2]), 12);
    sink.d(0, S::half_to_float(S::template right<16>(tail[3])));
  }

  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    const auto two = S::set8(3);
    typename S::Int high[8];
    rows.columns8(high);
    unrolled<2>([&](auto half) DW_INLINE_LAMBDA {
      typename S::Int dwords[8];
      rows.at(int64_t(offsetof(quant::BlockQ3_K, qs)) + 32 * half).columns8(dwords);
      unrolled<32>([&](auto at) DW_INLINE_LAMBDA {
        constexpr int kPart = at / 8, i = at % 8;
        sink.quants(32 * half + at, S::and_or(S::template right<2 * kPart>(dwords[i]), two,
                                              move_bit<S, 4 * half + kPart, 2>(high[i])));
      });
    });
    scales(rows, sink);
  }
};

struct UnpackQ8_K {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    const auto flip = S::set8(0x80);
    unrolled<16>([&](auto part) DW_INLINE_LAMBDA {
      typename S::Int dwords[4];
      rows.at(int64_t(offsetof(quant::BlockQ8_K, qs)) + 16 * part).columns4(dwords);
      unrolled<4>([&](auto i) DW_INLINE_LAMBDA { sink.quants(4 * part + i, S::xor_bits(dwords[i], flip)); });
    });
    sink.d(0, S::as_float(rows.column()));
  }
};

struct UnpackIQ4_XS {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> rows, int, Sink& sink) {
    unrolled<8>([&](auto b) DW_INLINE_LAMBDA {
      unpack_table_nibbles(rows.at(int64_t(offsetof(quant::BlockIQ4_XS, qs)) + 16 * b), b, iq4_table<S>(),
                           sink);
    });
    typename S::Int head[4];
    rows.columns4(head);
    unrolled<8>([&](auto b) DW_INLINE_LAMBDA {
      const auto high = S::and_bits(S::template right<16 + 2 * b>(head[0]), S::set32(3));
      const auto scale =
          S::and_or(S::template right<4 * b>(head[1]), S::set32(15), S::template left<4>(high));
      sink.scale(b, S::add32(scale, S::set32(uint32_t(-32))));
    });
    sink.d(0, S::half_to_float(head[0]));
  }
};

}  // namespace
}  // namespace dw::cpu
