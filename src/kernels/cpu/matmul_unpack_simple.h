// Unpackers of the types of 32-column blocks, for S = Simd512 or Simd256 (lane = row; see quant/blocks.h for
// the layouts). What they unpack goes to a sink, which stores it in a panel or multiplies it at once:
//   quants(column4, v)   u8 quants of columns 4 column4 .. + 3 of each row
//   shifted_quants<kBits>(column4, v, mask)   quants (v >> kBits) & mask, one kBits a group
//   scale(group, v)      integer scales, after all quants (kSuper)
//   min(group, v)        mins, groups in rising order
//   d(block, v), dmin(v) float scales; d after the quants of its block
// Included by the files of one instruction set each; internal linkage.
#pragma once

#include <utility>

#include "kernels/cpu/matmul_panel.h"
#include "quant/blocks.h"
#include "quant/iq_tables.h"

#define DW_INLINE [[gnu::always_inline]] inline
#define DW_INLINE_LAMBDA __attribute__((always_inline))

namespace dw::cpu {
namespace {

// body(0), body(1), ... with compile-time indices.
template <int kCount, class Body>
DW_INLINE void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) DW_INLINE_LAMBDA {
    (body(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, kCount>{});
}

template <class S>
struct Rows {
  const std::byte* data;
  int64_t stride;
  Rows at(int64_t offset) const { return {data + offset, stride}; }
  // Stops the compiler from keeping the address of every row in a register across a loop.
  Rows opaque() const {
    const std::byte* address = data;
    asm volatile("" : "+r"(address));
    return {address, stride};
  }
  void columns4(typename S::Int* out) const { S::load_columns4(data, stride, out); }
  void columns8(typename S::Int* out) const {
    columns4(out);
    at(16).columns4(out + 4);
  }
  typename S::Int column() const { return S::load_column(data, stride); }
  typename S::Int column16() const { return S::load_column16(data, stride); }
  typename S::Int column8() const { return S::load_column8(data, stride); }
};

// Stores into rows lane .. lane + S::kLanes - 1 of a panel.
template <class S>
struct PanelSink {
  using Int = typename S::Int;
  using Float = typename S::Float;
  static constexpr bool kMultipliesQ2K = true;  // Q2_K quants arrive times their scales
  Panel& panel;
  int lane;
  DW_INLINE void quants(int column4, Int v) const { S::store(panel.quants[column4][lane], v); }
  template <int kBits>
  DW_INLINE void shifted_quants(int column4, Int v, Int mask) const {
    quants(column4, S::and_bits(S::template right<kBits>(v), mask));
  }
  DW_INLINE void scale(int group, Int v) const { S::store(panel.scales[group] + lane, v); }
  DW_INLINE void min(int group, Float v) const { S::store(panel.mins[group] + lane, v); }
  DW_INLINE void d(int block, Float v) const { S::store(panel.d[block] + lane, v); }
  DW_INLINE void dmin(Float v) const { S::store(panel.dmin + lane, v); }
};

// Each of the following unpacks block b, whose rows begin at `block`.
struct UnpackQ8_0 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    const auto flip = S::set8(0x80);
    unrolled<2>([&](auto half) DW_INLINE_LAMBDA {
      typename S::Int dwords[4];
      block.at(2 + 16 * half).columns4(dwords);
      unrolled<4>([&](auto i)
                      DW_INLINE_LAMBDA { sink.quants(8 * b + 4 * half + i, S::xor_bits(dwords[i], flip)); });
    });
    sink.d(b, S::half_to_float(block.column16()));
  }
};

// 16 bytes of nibbles: elements i and 16 + i of block b.
template <class S, class Sink>
DW_INLINE void unpack_nibbles(Rows<S> nibbles, int b, Sink& sink) {
  const auto mask = S::set8(15);
  typename S::Int dwords[4];
  nibbles.columns4(dwords);
  unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
    sink.quants(8 * b + i, S::and_bits(dwords[i], mask));
    sink.template shifted_quants<4>(8 * b + 4 + i, dwords[i], mask);
  });
}

// The same, each nibble looked up in a table.
template <class S, class Sink>
DW_INLINE void unpack_table_nibbles(Rows<S> nibbles, int b, typename S::Int table, Sink& sink) {
  typename S::Int dwords[4];
  nibbles.columns4(dwords);
  unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
    sink.quants(8 * b + i, S::lookup_low(table, dwords[i]));
    sink.quants(8 * b + 4 + i, S::lookup_high(table, dwords[i]));
  });
}

struct UnpackQ4_0 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_nibbles(block.at(2), b, sink);
    sink.d(b, S::half_to_float(block.column16()));
  }
};

template <class S, class Sink>
DW_INLINE void unpack_d_and_min(Rows<S> block, int b, Sink& sink) {
  const auto scales = block.column();
  sink.min(b, S::half_to_float(S::template right<16>(scales)));
  sink.d(b, S::half_to_float(scales));
}

struct UnpackQ4_1 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_nibbles(block.at(4), b, sink);
    unpack_d_and_min(block, b, sink);
  }
};

// 4 bytes of fifth bits, then 16 of nibbles.
template <class S, class Sink>
DW_INLINE void unpack_five_bits(Rows<S> from, int b, Sink& sink) {
  const auto mask = S::set8(15);
  const auto fifth = from.column();
  typename S::Int dwords[4];
  from.at(4).columns4(dwords);
  unrolled<4>([&](auto i) DW_INLINE_LAMBDA {
    sink.quants(8 * b + i, S::and_or(dwords[i], mask, S::template spread_nibble<i>(fifth)));
    sink.quants(8 * b + 4 + i,
                S::and_or(S::template right<4>(dwords[i]), mask, S::template spread_nibble<4 + i>(fifth)));
  });
}

struct UnpackQ5_0 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_five_bits(block.at(2), b, sink);
    sink.d(b, S::half_to_float(block.column16()));
  }
};

struct UnpackQ5_1 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_five_bits(block.at(4), b, sink);
    unpack_d_and_min(block, b, sink);
  }
};

template <class S>
DW_INLINE typename S::Int iq4_table() {
  return S::xor_bits(S::table16(quant::kIq4NlValues.data()), S::set8(0x80));  // + 128
}

struct UnpackIQ4_NL {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_table_nibbles(block.at(2), b, iq4_table<S>(), sink);
    sink.d(b, S::half_to_float(block.column16()));
  }
};

// The values, doubled, + 12.
inline constexpr int8_t kMxfp4Quants[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

struct UnpackMXFP4 {
  template <class S, class Sink>
  DW_INLINE static void block(Rows<S> block, int b, Sink& sink) {
    unpack_table_nibbles(block.at(1), b, S::table16(kMxfp4Quants), sink);
    // 2^(e - 128): subnormal for e < 2
    const auto e = block.column8();
    const auto tiny = S::at_least(e, S::set32(1), S::set32(0x00400000), S::set32(0x00200000));
    const auto normal = S::template left<23>(S::add32(e, S::set32(0xffffffff)));
    sink.d(b, S::as_float(S::at_least(e, S::set32(2), normal, tiny)));
  }
};

}  // namespace
}  // namespace dw::cpu
