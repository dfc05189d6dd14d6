// gemv_tile(): which blocks take which rows.
#include "kernels/gpu/sm90/gemv_tile.h"

#include <algorithm>

#include "kernels/gpu/internal.h"

namespace dw::gpu {
namespace {

// Shares whole tiles out among the blocks; false: a type or shape does not fit.
bool share_tiles(GemvArguments& a, std::span<const ops::Linear> outputs, int blocks) {
  double bytes = 0;
  for (const ops::Linear& output : outputs) {
    if (!is_tile_type(output.weight.type) || output.weight.columns % 256 != 0) return false;
    bytes += double(output.weight.matrix_bytes());
  }
  for (double share = bytes / blocks;; share *= 1.01) {
    int block = 0;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ops::Matrix& w = outputs[i].weight;
      GemvOutput& o = a.outputs[i];
      o = {};
      o.weight = reinterpret_cast<const uint8_t*>(w.data);
      o.out = outputs[i].out;
      o.out_stride = outputs[i].out_stride != 0 ? outputs[i].out_stride : w.rows;
      o.row_bytes = uint32_t(w.row_stride());
      o.rows = int32_t(w.rows);
      o.first_block = block;
      o.rows_per_block = std::max(1, int(share / double(o.row_bytes) / kTileRows)) * kTileRows;
      o.type = w.type;
      o.add = outputs[i].add;
      block += int(ceil_div(o.rows, o.rows_per_block));
    }
    a.blocks = block;
    if (block <= std::max(blocks, int(outputs.size()))) return true;
  }
}

// At most kTileTokens tokens.
bool run_tiles(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs) {
  GemvArguments a = {};
  a.x = x;
  a.count = int32_t(outputs.size());
  a.tables = context.tables;
  const int groups = x.tokens <= 8 ? 1 : x.tokens <= 16 ? 2 : 4;
  for (const int residents : {2, 1}) {
    if (!share_tiles(a, outputs, context.limits.multiprocessors * residents)) return false;
    size_t staged = 0, stride = 0;
    int tiles = 1;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const GemvOutput& o = a.outputs[i];
      staged =
          std::max(staged, size_t(8 * groups) * size_t(x.columns / 32) * (is_fine_type(o.type) ? 72 : 40));
      stride = std::max<size_t>(stride, (o.row_bytes + 127) / 128 * 128 + 16);
      tiles = std::max(tiles, o.rows_per_block / kTileRows);
    }
    const size_t fixed = size_t(kTileWaves * kTileRows * 8 * groups) * 4 + 1024 + 512;
    const size_t room = context.limits.shared_bytes_block / size_t(residents) - fixed;
    const size_t tile_bytes = kTileRows * stride;
    if (room < staged + std::min(tiles, 2) * tile_bytes) continue;
    const int slots = int(std::min<size_t>({size_t(tiles), (room - staged) / tile_bytes, kMaxTileSlots}));
    const TileShape shape = {uint32_t(staged), slots, uint32_t(stride)};
    Work work = {"linear", double(x.tokens * x.columns) * 1.25, 0};
    for (const ops::Linear& output : outputs) {
      const ops::Matrix& w = output.weight;
      work.bytes += double(w.matrix_bytes()) + double(x.tokens * w.rows) * (output.add ? 8 : 4);
      work.operations += 2.0 * double(x.tokens) * double(w.rows) * double(w.columns);
    }
    const auto launch_tile = groups == 1   ? launch_gemv_tile<1>
                             : groups == 2 ? launch_gemv_tile<2>
                                           : launch_gemv_tile<4>;
    launch_tile(context, work, a, shape, staged + size_t(slots) * tile_bytes);
    return true;
  }
  return false;
}

}  // namespace

bool gemv_tile(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs) {
  if (context.limits.architecture < 900 || x.quants == nullptr || outputs.size() > size_t(kMaxOutputs))
    return false;
  // As many tokens a launch as shared memory holds beside two tiles.
  int64_t most = kTileTokens;
  for (int64_t first = 0; first < x.tokens;) {
    ops::Activations part = x;
    part.tokens = std::min(most, x.tokens - first);
    part.values += first * x.columns, part.quants += first * x.columns;
    part.scales += first * (x.columns / 32), part.sums += first * (x.columns / 16);
    ops::Linear moved[kMaxOutputs];
    for (size_t i = 0; i < outputs.size(); ++i) {
      moved[i] = outputs[i];
      moved[i].out += first * (outputs[i].out_stride != 0 ? outputs[i].out_stride : outputs[i].weight.rows);
    }
    if (run_tiles(context, part, {moved, outputs.size()}))
      first += part.tokens;
    else if (first != 0 || most == 8)  // fewer tokens always fit, so that nothing was queued
      return false;
    else
      most /= 2;
  }
  return true;
}

}  // namespace dw::gpu
