// Unpackers of the types of 32-column blocks, for S = Simd512 or Simd256 (lane = row; see quant/blocks.h for
// the layouts). `lane` is the panel row of the first lane. Included by the files of one instruction set each;
// internal linkage.
#pragma once

#include "kernels/cpu/matmul_panel.h"
#include "quant/blocks.h"
#include "quant/iq_tables.h"

namespace dw::cpu {
namespace {

template <class S>
struct Rows {
  const std::byte* data;
  int64_t stride;
  Rows at(int64_t offset) const { return {data + offset, stride}; }
  void columns4(typename S::Int* out) const { S::load_columns4(data, stride, out); }
  void columns(typename S::Int* out) const { S::load_columns(data, stride, out); }
  typename S::Int column() const { return S::load_column(data, stride); }
  typename S::Int column16() const { return S::load_column16(data, stride); }
  typename S::Int column8() const { return S::load_column8(data, stride); }
};

template <class S>
void unpack_q8_0(Rows<S> rows, int blocks, int lane, Panel& panel) {
  const auto flip = S::set8(0x80);
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockQ8_0)));
    S::store(panel.d[b] + lane, S::half_to_float(block.column16()));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      typename S::Int dwords[4];
      block.at(2 + 16 * half).columns4(dwords);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        S::store(panel.quants[8 * b + 4 * half + i][lane], S::xor_bits(dwords[i], flip));
    }
  }
}

// The 16 bytes of nibbles of block b: elements i and 16 + i; each nibble passes through `map`.
template <class S, class Map>
[[gnu::always_inline]] inline void unpack_nibbles(Rows<S> nibbles, int b, int lane, Panel& panel,
                                                  const Map& map) {
  const auto mask = S::set8(15);
  typename S::Int dwords[4];
  nibbles.columns4(dwords);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    S::store(panel.quants[8 * b + i][lane], map(S::and_bits(dwords[i], mask)));
    S::store(panel.quants[8 * b + 4 + i][lane], map(S::and_bits(S::template right<4>(dwords[i]), mask)));
  }
}

template <class S>
void unpack_q4_0(Rows<S> rows, int blocks, int lane, Panel& panel) {
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockQ4_0)));
    S::store(panel.d[b] + lane, S::half_to_float(block.column16()));
    unpack_nibbles<S>(block.at(2), b, lane, panel, [](auto nibbles) { return nibbles; });
  }
}

template <class S>
void unpack_q4_1(Rows<S> rows, int blocks, int lane, Panel& panel) {
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockQ4_1)));
    const auto scales = block.column();
    S::store(panel.d[b] + lane, S::half_to_float(scales));
    S::store(panel.mins[b] + lane, S::half_to_float(S::template right<16>(scales)));
    unpack_nibbles<S>(block.at(4), b, lane, panel, [](auto nibbles) { return nibbles; });
  }
}

template <class S, int i = 0>
[[gnu::always_inline]] inline void unpack_five_bits(const typename S::Int (&dwords)[4], typename S::Int fifth,
                                                    int b, int lane, Panel& panel) {
  if constexpr (i < 4) {
    const auto mask = S::set8(15);
    S::store(panel.quants[8 * b + i][lane], S::and_or(dwords[i], mask, S::template spread_nibble<i>(fifth)));
    S::store(panel.quants[8 * b + 4 + i][lane],
             S::and_or(S::template right<4>(dwords[i]), mask, S::template spread_nibble<4 + i>(fifth)));
    unpack_five_bits<S, i + 1>(dwords, fifth, b, lane, panel);
  }
}

template <class S>
void unpack_q5_0(Rows<S> rows, int blocks, int lane, Panel& panel) {
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockQ5_0)));
    S::store(panel.d[b] + lane, S::half_to_float(block.column16()));
    typename S::Int dwords[4];
    block.at(6).columns4(dwords);
    unpack_five_bits<S>(dwords, block.at(2).column(), b, lane, panel);
  }
}

template <class S>
void unpack_q5_1(Rows<S> rows, int blocks, int lane, Panel& panel) {
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockQ5_1)));
    const auto scales = block.column();
    S::store(panel.d[b] + lane, S::half_to_float(scales));
    S::store(panel.mins[b] + lane, S::half_to_float(S::template right<16>(scales)));
    typename S::Int dwords[4];
    block.at(8).columns4(dwords);
    unpack_five_bits<S>(dwords, block.at(4).column(), b, lane, panel);
  }
}

template <class S>
void unpack_iq4_nl(Rows<S> rows, int blocks, int lane, Panel& panel) {
  const auto table = S::xor_bits(S::table16(quant::kIq4NlValues.data()), S::set8(0x80));  // + 128
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockIQ4_NL)));
    S::store(panel.d[b] + lane, S::half_to_float(block.column16()));
    unpack_nibbles<S>(block.at(2), b, lane, panel, [&](auto nibbles) { return S::lookup(table, nibbles); });
  }
}

inline constexpr int8_t kMxfp4Quants[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

template <class S>
void unpack_mxfp4(Rows<S> rows, int blocks, int lane, Panel& panel) {
  const auto table = S::table16(kMxfp4Quants);  // the values, doubled, + 12
  for (int b = 0; b < blocks; ++b) {
    const auto block = rows.at(b * int64_t(sizeof(quant::BlockMXFP4)));
    // 2^(e - 128): subnormal for e < 2
    const auto e = block.column8();
    const auto tiny = S::at_least(e, S::set32(1), S::set32(0x00400000), S::set32(0x00200000));
    const auto normal = S::template left<23>(S::add32(e, S::set32(0xffffffff)));
    S::store(panel.d[b] + lane, S::as_float(S::at_least(e, S::set32(2), normal, tiny)));
    unpack_nibbles<S>(block.at(1), b, lane, panel, [&](auto nibbles) { return S::lookup(table, nibbles); });
  }
}

}  // namespace
}  // namespace dw::cpu
