#include "kernels/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/matmul_panel.h"

namespace dw::cpu {
namespace {

// Packed activations of the tokens at hand, [unit][plane][token]: small enough to stay in the second-level
// cache.
constexpr int64_t kPackedUnits = 640;  // 260 KiB
constexpr int64_t kMaxTokenBlock = 128;
// How far ahead weights are asked for. Measured on Zen 4, Q4_K, one thread, GB/s of one token: 1 tile 17, 2
// tiles 23, 3 tiles 20, 4 tiles 17.
constexpr int64_t kTilesAhead = 2;

TypeKernels kernels_of(CpuLevel level, quant::Type type) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) return avx512_kernels(type);
  if (level == CpuLevel::kAvx2) return avx2_kernels(type);
#endif
  static_cast<void>(level);
  return portable_kernels(type);
}

ResidualFn residual_of(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) return avx512_residual();
  if (level == CpuLevel::kAvx2) return avx2_residual();
#endif
  static_cast<void>(level);
  return portable_residual();
}

void float_rows(CpuLevel level, const MatmulCall& call, int64_t row_begin, int64_t row_end) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) return float_rows_avx512(call, row_begin, row_end);
  if (level == CpuLevel::kAvx2) return float_rows_avx2(call, row_begin, row_end);
#endif
  static_cast<void>(level);
  float_rows_portable(call, row_begin, row_end);
}

int blocks_of_unit(int64_t columns, int64_t unit) {
  return int(std::min<int64_t>(kUnitColumns, columns - unit * kUnitColumns) / 32);
}

void pack_unit(const Format& format, const int8_t* quants, const float* scales, const int16_t* sums,
               int blocks, TokenUnit& out) {
  std::memcpy(out.quants, quants, size_t(blocks) * 32);
  std::memcpy(out.scales, scales, size_t(blocks) * sizeof(float));
  const int offset = format.offset;
  if (format.group == 16) {
    for (int g = 0; g < 2 * blocks; ++g) out.bias[g] = -offset * sums[g];
  } else {
    for (int b = 0; b < blocks; ++b) out.bias[b] = -offset * (sums[2 * b] + sums[2 * b + 1]);
  }
  if (format.min_group == 16) {
    for (int g = 0; g < 2 * blocks; ++g) out.sums[g] = scales[g / 2] * float(sums[g]);
  } else if (format.min_group == 32) {
    for (int b = 0; b < blocks; ++b) out.sums[b] = scales[b] * float(sums[2 * b] + sums[2 * b + 1]);
  }
}

void pack_residual(const Format& format, ResidualFn residual, const float* values, const int8_t* quants,
                   const float* scales, int blocks, TokenUnit& out) {
  alignas(64) float sums[2 * kUnitBlocks];
  residual(values, quants, scales, blocks, out.quants, out.scales, sums);
  const int groups = 32 * blocks / format.group;
  for (int g = 0; g < groups; ++g) {
    const float sum = format.group == 16 ? sums[g] : sums[2 * g] + sums[2 * g + 1];
    out.bias[g] = -format.offset * int32_t(sum);
  }
}

// Tokens [begin, begin + count) of the call, packed as [unit][plane][count].
void pack_tokens(CpuLevel level, const MatmulCall& call, const Format& format, int64_t begin, int64_t count,
                 TokenUnit* out) {
  const int planes = planes_of(call.weight.type);
  const ResidualFn residual = residual_of(level);
  const int64_t columns = call.weight.columns;
  const int64_t units = (columns + kUnitColumns - 1) / kUnitColumns;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = call.token_rows ? call.token_rows[begin + i] : begin + i;
    const int8_t* quants = call.x.quants + row * columns;
    const float* scales = call.x.scales + row * (columns / 32);
    const int16_t* sums = call.x.sums + row * (columns / 16);
    for (int64_t unit = 0; unit < units; ++unit) {
      const int8_t* unit_quants = quants + unit * kUnitColumns;
      const float* unit_scales = scales + unit * kUnitBlocks;
      const int blocks = blocks_of_unit(columns, unit);
      TokenUnit* to = out + unit * planes * count + i;
      pack_unit(format, unit_quants, unit_scales, sums + unit * 2 * kUnitBlocks, blocks, *to);
      if (planes == 2)
        pack_residual(format, residual, call.x.values + row * columns + unit * kUnitColumns, unit_quants,
                      unit_scales, blocks, to[count]);
    }
  }
}

// sums is [token][16]; of types with two planes [plane][token][16], added up here.
void store_tile(const MatmulCall& call, int64_t token_begin, int64_t token_count, int64_t row, int64_t rows,
                bool two_planes, float* sums) {
  for (int64_t i = 0; i < token_count; ++i) {
    float* out = call.out + (token_begin + i) * call.out_stride + row;
    float* from = sums + i * kRowTile;
    if (two_planes)
      for (int64_t r = 0; r < kRowTile; ++r) from[r] += from[token_count * kRowTile + r];
    if (call.add) {
      for (int64_t r = 0; r < rows; ++r) out[r] += from[r];
    } else {
      std::memcpy(out, from, size_t(rows) * sizeof(float));
    }
  }
}

// Weights of one tile. A tile of fewer than 16 rows is copied, its last row repeated, so that kernels always
// see 16 rows.
struct TileRows {
  const std::byte* data;
  int64_t stride;
};

class QuantizedRows {
 public:
  QuantizedRows(CpuLevel level, const TypeKernels& kernels, const MatmulCall& call)
      : level_(level),
        kernels_(kernels),
        planes_(planes_of(call.weight.type)),
        call_(call),
        format_(format_of(call.weight.type)),
        row_bytes_(int64_t(quant::row_bytes(call.weight.type, uint64_t(call.weight.columns)))),
        units_((call.weight.columns + kUnitColumns - 1) / kUnitColumns) {
    const auto& info = quant::type_info(call.weight.type);
    unit_bytes_ = int64_t(kUnitColumns / info.block_size * info.block_bytes);
  }

  int64_t token_units() const { return units_ * planes_; }
  int planes() const { return planes_; }

  void run(int64_t token_begin, int64_t token_count, int64_t row_begin, int64_t row_end, TokenUnit* packed) {
    pack_tokens(level_, call_, format_, token_begin, token_count, packed);
    const int64_t products = token_count * planes_;
    alignas(64) float sums[kMaxTokenBlock * kRowTile];
    row_end_ = row_end;
    fetch(row_begin, 0, units_);
    for (int64_t row = row_begin; row < row_end; row += kRowTile) {
      const int64_t rows = std::min(kRowTile, row_end - row);
      if (token_count == 1 && rows == kRowTile && kernels_.gemv != nullptr) {
        const std::byte* data = call_.weight.data + row * row_bytes_;
        const std::byte* next = tile_at(row + kTilesAhead * kRowTile);
        kernels_.gemv(data, row_bytes_, call_.weight.columns, packed, next, sums);
        store_tile(call_, token_begin, token_count, row, rows, false, sums);  // planes added up
      } else {
        std::memset(sums, 0, size_t(products * kRowTile) * sizeof(float));
        for (int64_t unit = 0; unit < units_; ++unit) multiply_unit(row, rows, unit, products, packed, sums);
        store_tile(call_, token_begin, token_count, row, rows, planes_ == 2, sums);
      }
    }
  }

 private:
  // The tile at `row`; past the last row of the call, a tile of what this thread is likely to read next.
  // (With many tokens the bytes behind the call's rows are the better guess: prefill was a quarter slower
  // with this.)
  const std::byte* tile_at(int64_t row) const {
    if (row < row_end_ || call_.next == nullptr) return call_.weight.data + row * row_bytes_;
    return call_.next + (row - row_end_) * row_bytes_;
  }

  // Asks for units [unit, unit + count) of the tile at `row`. A tile is contiguous: its units are taken for
  // equal pieces of it, whatever their place in the rows.
  void fetch(int64_t row, int64_t unit, int64_t count) const {
    const std::byte* tile = call_.weight.data + row * row_bytes_;
    const int64_t end = std::min((unit + count) * unit_bytes_, row_bytes_) * kRowTile;
    for (int64_t at = unit * unit_bytes_ * kRowTile; at < end; at += 64) __builtin_prefetch(tile + at, 0, 2);
  }

  // token_count: planes included.
  void multiply_unit(int64_t row, int64_t rows, int64_t unit, int64_t token_count, const TokenUnit* packed,
                     float* sums) {
    const int blocks = blocks_of_unit(call_.weight.columns, unit);
    const std::byte* data = call_.weight.data + row * row_bytes_ + unit * unit_bytes_;
    if (rows == kRowTile) {
      kernels_.unpack(data, row_bytes_, blocks, panel_);
      fetch(row + kTilesAhead * kRowTile, unit, 1);
    } else {
      const int64_t bytes = unit_bytes_ * blocks / kUnitBlocks;
      for (int64_t r = 0; r < kRowTile; ++r)
        std::memcpy(edge_ + r * bytes, data + std::min(r, rows - 1) * row_bytes_, size_t(bytes));
      kernels_.unpack(edge_, bytes, blocks, panel_);
    }
    // Tokens in tiles of nearly equal size.
    const int64_t tiles = (token_count + kernels_.max_tokens - 1) / kernels_.max_tokens;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = token_count * tile / tiles, end = token_count * (tile + 1) / tiles;
      kernels_.dot[end - begin](panel_, packed + unit * token_count + begin, blocks, sums + begin * kRowTile);
    }
  }

  CpuLevel level_;
  TypeKernels kernels_;
  int planes_;
  const MatmulCall& call_;
  Format format_;
  int64_t row_bytes_;
  int64_t units_;
  int64_t unit_bytes_ = 0;
  int64_t row_end_ = 0;
  Panel panel_;
  alignas(64) std::byte edge_[kRowTile * 292];
};

}  // namespace

bool uses_quantized_activations(quant::Type type) {
  return type != quant::Type::F32 && type != quant::Type::F16 && type != quant::Type::BF16;
}

void quantize_activations(CpuLevel level, const float* values, int64_t columns, int8_t* quants, float* scales,
                          int16_t* sums) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) return quantize_avx512(values, columns, quants, scales, sums);
  if (level == CpuLevel::kAvx2) return quantize_avx2(values, columns, quants, scales, sums);
#endif
  static_cast<void>(level);
  quantize_portable(values, columns, quants, scales, sums);
}

void matmul_rows(CpuLevel level, const MatmulCall& call, int64_t row_begin, int64_t row_end) {
  DW_CHECK(row_begin % kRowTile == 0, "matmul_rows: row_begin must be a multiple of the row tile");
  DW_CHECK(0 <= row_begin && row_end <= call.weight.rows, "matmul_rows: rows out of range");
  if (row_begin >= row_end || call.token_count <= 0) return;
  if (!uses_quantized_activations(call.weight.type)) return float_rows(level, call, row_begin, row_end);
  DW_CHECK(call.x.quants != nullptr && call.weight.columns % 32 == 0,
           "matmul_rows: quantised weights need quantised activations");
  const TypeKernels kernels = kernels_of(level, call.weight.type);
  DW_CHECK(kernels.unpack != nullptr, "matmul_rows: the type cannot be multiplied");
  DW_CHECK(planes_of(call.weight.type) == 1 || call.x.values != nullptr,
           "matmul_rows: these weights need the activations' fp32 values too");
  QuantizedRows rows(level, kernels, call);
  const int64_t token_block =
      std::clamp<int64_t>(kPackedUnits / rows.token_units(), 1, kMaxTokenBlock / rows.planes());
  alignas(64) TokenUnit small[kPackedUnits];
  std::vector<TokenUnit> large;  // one token of more than kPackedUnits units
  if (rows.token_units() > kPackedUnits) large.resize(size_t(rows.token_units()));
  TokenUnit* packed = large.empty() ? small : large.data();
  for (int64_t begin = 0; begin < call.token_count; begin += token_block)
    rows.run(begin, std::min(token_block, call.token_count - begin), row_begin, row_end, packed);
}

}  // namespace dw::cpu
