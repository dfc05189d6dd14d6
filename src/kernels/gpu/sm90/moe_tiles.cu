// The experts of some tens of tokens on Hopper, where most experts that are chosen have one or two tokens:
// pairs (token, choice) sorted by expert, tiles of up to four of them, each expert's weights streamed once a
// tile and multiplied with int8 activations as for few tokens. A token's result does not depend on the
// others'.
#include <algorithm>

#include "kernels/gpu/launch.h"
#include "kernels/gpu/scratch.h"
#include "kernels/gpu/sm90/moe_stream.h"
#include "kernels/gpu/sm90/moe_stream_device.h"

namespace dw::gpu {
namespace {

constexpr int kExpertTileTokens = 4;
constexpr int kDownBlockRows = 128;
constexpr uint32_t kRingBytes = 56 << 10;    // of a block of gate_up, where a row allows
constexpr uint32_t kQ4RoomBytes = 80 << 10;  // all rows of such a block, at most

// Rows of the hidden values: the sorted slots of all pairs, then the shared expert's, a token each. Rows of
// what down writes: the pairs, then the shared expert's.
struct TileRows {
  SortedPairs sorted;
  int32_t pairs, tokens, top_k;
  int32_t shared_tiles;  // come first; 0: no shared expert
};
struct Tile {
  int expert, first, count;  // expert -1: the shared one; count 0: nothing
};
DW_DEVICE Tile tile_of(const TileRows& rows, int index) {
  if (index < rows.shared_tiles)
    return {-1, rows.pairs + index * kExpertTileTokens,
            min(kExpertTileTokens, rows.tokens - index * kExpertTileTokens)};
  index -= rows.shared_tiles;
  if (index >= __ldcg(rows.sorted.tile_count)) return {0, 0, 0};
  const ExpertTile* tile = rows.sorted.tiles + index;
  return {__ldcg(&tile->expert), __ldcg(&tile->first), __ldcg(&tile->count)};
}
// The pair of a hidden row, or pairs + token of the shared expert's.
DW_DEVICE int pair_of(const TileRows& rows, int row) {
  return row < rows.pairs ? __ldcg(rows.sorted.slot_pair + row) : row;
}

struct TilesGateUp {
  ops::Activations x;
  ExpertMatrix matrices[4];  // gate, up; of the shared expert: gate, up
  TileRows rows;
  HiddenPlanes hidden;
  int32_t width;
  uint32_t staged_room, ring_bytes;
  bool fine;  // the residual is wanted
  IqTables tables;
};
struct TilesDown {
  ExpertMatrix down, shared_down;
  TileRows tiles;
  HiddenPlanes hidden;
  const float* weights;  // [pairs]
  const float* logits;   // [tokens, stride], the shared expert's last; nullptr: weight 1
  float* products;       // [pairs + tokens, rows]
  int32_t logit_stride, width, rows;
  uint32_t staged_room;
  IqTables tables;
};

// Grid: groups of 32 outputs, tiles. kQ4: gate and up are Q4_K, the shared expert's too, and the rings whole.
template <bool kQ4>
__global__ void __launch_bounds__(kGemvThreads, kQ4 ? 2 : 3)
    gate_up_tiles_kernel(const DW_GRID_CONSTANT TilesGateUp a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ uint64_t barriers[kMoeWaves][kPairs];
  __shared__ float results[kExpertTileTokens][kBlockOutputs];
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  if (threadIdx.x < kMoeWaves) {
    for (int p = 0; p < kPairs; ++p) init_barrier(barriers[threadIdx.x] + p);
    publish_barriers();
  }
  __syncthreads();
  wait_for_previous();
  allow_next();
  const Tile tile = tile_of(a.rows, int(blockIdx.y));
  if (tile.count == 0) return;
  const bool is_shared = tile.expert < 0;
  const ExpertMatrix& gate = a.matrices[is_shared ? 2 : 0];
  const ExpertMatrix& up = a.matrices[is_shared ? 3 : 1];
  PairRing ring;
  ring.row_bytes = gate.row_bytes;
  ring.slot_count = min(kPairs, int(a.ring_bytes / uint32_t(kMoeWaves) / (2 * gate.row_bytes)));
  ring.slots = shared + a.staged_room + uint32_t(wave * ring.slot_count) * 2 * gate.row_bytes;
  ring.barriers = barriers[wave];
  const uint64_t expert = is_shared ? 0 : uint64_t(tile.expert);
  const uint64_t offset = uint64_t(int(blockIdx.x) * kBlockOutputs + wave * kPairs) * gate.row_bytes;
  ring.gate = gate.data + expert * gate.expert_bytes + offset;
  ring.up = up.data + expert * up.expert_bytes + offset;
  if (lane == 0) {
    if constexpr (kQ4)
      ring.start_whole();
    else
      ring.start();
  }
  const bool fine_x = is_fine_type(gate.type);
  StagedAny staged = {};
  staged.rows = StagedRows::at(shared, kExpertTileTokens, int(a.x.columns) / 32, fine_x);
  {  // as many waves a token
    constexpr int kThreads = kGemvThreads / kExpertTileTokens;
    const int t = int(threadIdx.x) / kThreads;
    if (t < tile.count) {
      const int pair = pair_of(a.rows, tile.first + t);
      const int token = is_shared ? pair - a.rows.pairs : pair / a.rows.top_k;
      stage_row(staged.rows, t, a.x, token, fine_x, int(threadIdx.x) % kThreads, kThreads);
    }
  }
  __syncthreads();
  if constexpr (kQ4) {
    multiply_q4_pairs<kExpertTileTokens>(
        ring, int(a.x.columns), staged.rows, tile.count,
        [&](int p, int t, float g, float u) { results[t][wave * kPairs + p] = silu(g) * u; });
  } else {
    visit_quantised_type(gate.type, [&](auto type) {
      using Units = QuantisedUnits<type.value>;
      const int columns = int(a.x.columns), units = Units::count(columns);
#pragma unroll 1
      for (int p = 0; p < kPairs; ++p) {
        const uint8_t* rows = ring.wait(p);
        float sums[2 * kExpertTileTokens] = {};
#pragma unroll 1
        for (int at = lane; at < units; at += kWave) {
          typename Units::Unit decoded[2];
#pragma unroll
          for (int r = 0; r < 2; ++r)
            decoded[r] =
                Units::decode(Units::fetch(rows + uint32_t(r) * ring.row_bytes, columns, at), lane, a.tables);
#pragma unroll
          for (int t = 0; t < kExpertTileTokens; ++t) {
            if (t >= tile.count) break;
            float two[2] = {sums[t], sums[kExpertTileTokens + t]};
            multiply_units<Units, 2, 1>(decoded, staged, t, at, two);
            sums[t] = two[0], sums[kExpertTileTokens + t] = two[1];
          }
        }
        __syncwarp();
        if (lane == 0 && p + ring.slot_count < kPairs) ring.fill(p + ring.slot_count);
        const float total = sum_values_of_wave(sums, lane), up_total = lane_xor(total, kExpertTileTokens);
        if (lane < kExpertTileTokens) results[lane][wave * kPairs + p] = silu(total) * up_total;
      }
    });
  }
  __syncthreads();
  if (wave < tile.count)
    store_hidden(a.hidden, tile.first + wave, a.width / 32, int(blockIdx.x), results[wave][lane], a.fine);
}

// Rows of two blocks, two lanes a row.
DW_DEVICE void down_q4(const uint8_t* weights, uint32_t row_bytes, int count, const StagedRows& x, int tokens,
                       float (&results)[kExpertTileTokens][kDownBlockRows]) {
  const int block = int(threadIdx.x) % 2, row = int(threadIdx.x) / 2;
  static_assert(kDownBlockRows == kGemvThreads / 2);
  const uint8_t* const rows[1] = {weights + uint32_t(min(row, count - 1)) * row_bytes};
  float sums[kExpertTileTokens] = {};
  multiply_q4_block<1, kExpertTileTokens>(rows, 512, block, x, 0, tokens, block, sums);
#pragma unroll
  for (int t = 0; t < kExpertTileTokens; ++t) {
    const float total = lanes_sum<2>(sums[t]);
    if (block == 0) results[t][row] = total;
  }
}

// Grid: row blocks, tiles. kQ4: all are Q4_K, of two blocks a row.
template <bool kQ4>
__global__ void __launch_bounds__(kGemvThreads, 3) down_tiles_kernel(const DW_GRID_CONSTANT TilesDown a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float results[kExpertTileTokens][kDownBlockRows];
  __shared__ uint64_t barrier;
  __shared__ int pairs[kExpertTileTokens];
  const int first_row = int(blockIdx.x) * kDownBlockRows, thread = int(threadIdx.x);
  if (thread == 0) {
    init_barrier(&barrier);
    publish_barriers();
  }
  wait_for_previous();
  allow_next();
  const Tile tile = tile_of(a.tiles, int(blockIdx.y));
  if (tile.count == 0) return;
  const bool is_shared = tile.expert < 0;
  const ExpertMatrix& m = is_shared ? a.shared_down : a.down;
  const int count = min(kDownBlockRows, a.rows - first_row);
  uint8_t* weights = shared + a.staged_room;
  if (thread == 0) {
    const uint64_t expert = is_shared ? 0 : uint64_t(tile.expert);
    expect_bytes(&barrier, uint32_t(count) * m.row_bytes);
    copy_bulk(weights, m.data + expert * m.expert_bytes + uint64_t(first_row) * m.row_bytes,
              uint32_t(count) * m.row_bytes, &barrier);
  }
  if (thread < tile.count) pairs[thread] = pair_of(a.tiles, tile.first + thread);
  const int chunks = a.width / 32, words = 2 * tile.count * chunks, first_word = 2 * tile.first * chunks;
  const bool fine = is_fine_type(m.type);
  StagedAny staged = {};
  staged.rows = StagedRows::at(shared, kExpertTileTokens, chunks, fine);
  for (int i = thread; i < words; i += kGemvThreads) {
    staged.rows.quants[i] = __ldcg(a.hidden.quants + first_word + i);
    if (fine) staged.rows.residual[i] = __ldcg(a.hidden.residual + first_word + i);
  }
  __syncthreads();
  for (int i = thread; i < tile.count * chunks; i += kGemvThreads) {
    const int pair = pairs[i / chunks];
    float weight = 1;
    if (!is_shared)
      weight = a.weights[pair];
    else if (a.logits != nullptr)
      weight = sigmoid(a.logits[int64_t(pair - a.tiles.pairs + 1) * a.logit_stride - 1]);
    const float scale = weight * __ldcg(a.hidden.scale + tile.first * chunks + i);
    const int sums = __ldcg(a.hidden.sums + tile.first * chunks + i);
    staged.rows.scale[i] = scale;
    staged.rows.sum[i] = scale * float(int16_t(sums) + (sums >> 16));
    staged.rows.first_sum[i] = scale * float(int16_t(sums));
  }
  __syncthreads();
  wait_barrier(&barrier, 0);
  if constexpr (kQ4) {
    down_q4(weights, m.row_bytes, count, staged.rows, tile.count, results);
  } else {
    visit_quantised_type(m.type, [&](auto type) {
      using Units = QuantisedUnits<type.value>;
      const RowLoop<Units, 1, kExpertTileTokens, 1> loop(weights, nullptr, m.row_bytes, count, a.width);
      loop.run(
          a.tables,
          [&](const auto& decoded, int at, auto& sums) {
#pragma unroll
            for (int t = 0; t < kExpertTileTokens; ++t) {
              if (t >= tile.count) break;
              float one[1] = {sums[t]};
              multiply_units<Units, 1, 1>(decoded, staged, t, at, one);
              sums[t] = one[0];
            }
          },
          [&](int row, int token, float total) { results[token][row] = total; });
    });
  }
  __syncthreads();
  for (int i = thread; i < tile.count * kDownBlockRows; i += kGemvThreads) {
    const int t = i / kDownBlockRows, row = i % kDownBlockRows;
    if (row < count) a.products[int64_t(pairs[t]) * a.rows + first_row + row] = results[t][row];
  }
}

constexpr int kSumThreads = 128;

// out[t] += the token's products, first choice first, the shared expert last.
__global__ void __launch_bounds__(kSumThreads)
    sum_products_kernel(const float* products, int pairs, int top_k, bool has_shared, int columns,
                        float* out) {
  wait_for_previous();
  allow_next();
  const int64_t token = blockIdx.y;
  const int column = (int(blockIdx.x) * kSumThreads + int(threadIdx.x)) * 4;
  if (column >= columns) return;
  const float* from = products + token * top_k * columns + column;
  float4* to = reinterpret_cast<float4*>(out + token * columns + column);
  const float4 before = *to;
  float4 sum = make_float4(0, 0, 0, 0);
  const auto add = [&](const float4& v) { sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w; };
#pragma unroll 5
  for (int i = 0; i < top_k; ++i) add(*reinterpret_cast<const float4*>(from + int64_t(i) * columns));
  if (has_shared) add(*reinterpret_cast<const float4*>(products + (pairs + token) * columns + column));
  *to = make_float4(before.x + sum.x, before.y + sum.y, before.z + sum.z, before.w + sum.w);
}

struct Room {
  float* logits;
  RouteTarget route;
  uint16_t* keys;
  int32_t* counts;
  SortedPairs sorted;
  HiddenPlanes hidden;
  float* products;
};
Room lay_out(const ops::Moe& op, int64_t tokens, Scratch& scratch) {
  const int64_t pairs = tokens * op.top_k, rows = pairs + tokens, width = op.down.columns;
  Room room = {};
  room.logits = scratch.take<float>(tokens * (op.expert_count + 1));
  room.route.experts = scratch.take<int32_t>(pairs);
  room.route.weights = scratch.take<float>(pairs);
  room.keys = scratch.take<uint16_t>((pairs + 7) / 8 * 8);
  room.counts = scratch.take<int32_t>(op.expert_count);
  room.sorted.slot_pair = scratch.take<int32_t>(pairs);
  room.sorted.tiles = scratch.take<ExpertTile>(tile_bound(pairs, op.expert_count, kExpertTileTokens));
  room.sorted.tile_count = scratch.take<int32_t>(1);
  room.hidden.quants = scratch.take<int4>(rows * width / 16);
  room.hidden.residual = scratch.take<int4>(rows * width / 16);
  room.hidden.scale = scratch.take<float>(rows * width / 32);
  room.hidden.sums = scratch.take<int>(rows * width / 32);
  room.products = scratch.take<float>(rows * op.down.rows);
  return room;
}

uint32_t round_up_128(size_t bytes) {
  return uint32_t((bytes + 127) / 128 * 128);
}

bool fits(const Context& context, const ops::Moe& op, const GateUp& both) {
  const auto quantised = [](const ops::Matrix& m) { return !is_float_type(m.type); };
  const bool has_shared = bool(op.shared_gate);
  if (context.limits.architecture < 900 || op.x.tokens > kMoeTileTokens || op.top_k > kMaxTopK) return false;
  if (both.gate.type != both.up.type || !quantised(both.gate) || !quantised(op.down)) return false;
  if (has_shared && (op.shared_gate.type != op.shared_up.type || !quantised(op.shared_gate) ||
                     !quantised(op.shared_down) || op.shared_down.columns != op.down.columns))
    return false;
  return op.down.columns % kBlockOutputs == 0 && op.x.columns % 32 == 0 && op.down.rows % 4 == 0;
}

}  // namespace

uint64_t moe_tiles_scratch_bytes(const ops::Moe& largest) {
  Scratch scratch(nullptr, UINT64_MAX);
  lay_out(largest, std::min<int64_t>(largest.x.tokens, kMoeTileTokens), scratch);
  return scratch.used();
}

bool moe_tiles(Context& context, const ops::Moe& op, const ops::Norm* norm) {
  const GateUp both = gate_and_up(op);
  if (!fits(context, op, both)) return false;
  const bool has_shared = bool(op.shared_gate);
  const int64_t tokens = op.x.tokens, pairs = tokens * op.top_k, width = op.down.columns;
  const uint64_t most = context.limits.shared_bytes_block - 4096;

  TilesGateUp g = {};
  const bool fine_x = is_fine_type(both.gate.type) || (has_shared && is_fine_type(op.shared_gate.type));
  const uint64_t row_bytes =
      std::max(both.gate.row_stride(), has_shared ? op.shared_gate.row_stride() : uint64_t(0));
  const uint64_t one_slot = uint64_t(kMoeWaves) * 2 * row_bytes;
  g.staged_room = round_up_128(staged_bytes(kExpertTileTokens, op.x.columns, fine_x));
  const auto q4 = [](const ops::Matrix& m) { return !m || m.type == quant::Type::Q4_K; };
  const bool gate_up_q4 = q4(both.gate) && q4(op.shared_gate) && kPairs * one_slot <= kQ4RoomBytes;
  const bool down_q4 = q4(op.down) && q4(op.shared_down) && width == 512;
  g.ring_bytes = uint32_t(gate_up_q4 ? kPairs * one_slot
                                     : std::clamp<uint64_t>(kRingBytes, one_slot, kPairs * one_slot));
  const size_t gate_up_shared = g.staged_room + g.ring_bytes;
  TilesDown d = {};
  const bool fine_hidden = is_fine_type(op.down.type) || (has_shared && is_fine_type(op.shared_down.type));
  d.staged_room = round_up_128(staged_bytes(kExpertTileTokens, width, fine_hidden));
  const size_t down_shared =
      d.staged_room +
      kDownBlockRows * std::max(op.down.row_stride(), has_shared ? op.shared_down.row_stride() : uint64_t(0));
  if (gate_up_shared > most || down_shared > most) return false;

  Scratch scratch(context.scratch, context.scratch_bytes);
  const Room room = lay_out(op, tokens, scratch);
  if (scratch.exhausted() || !router_logits(context, op, norm, room.logits, room.counts)) return false;
  choose_experts(context, op, room.logits, op.expert_count + 1, room.route, room.keys, room.counts);
  sort_pairs(context, pairs, op.expert_count, kExpertTileTokens, room.keys, room.counts, room.sorted);

  g.x = op.x;
  g.matrices[0] = expert_matrix(both.gate), g.matrices[1] = expert_matrix(both.up);
  g.matrices[0].expert_bytes = both.gate_bytes, g.matrices[1].expert_bytes = both.up_bytes;
  if (has_shared) g.matrices[2] = expert_matrix(op.shared_gate), g.matrices[3] = expert_matrix(op.shared_up);
  g.rows.sorted = room.sorted;
  g.rows.pairs = int32_t(pairs), g.rows.tokens = int32_t(tokens), g.rows.top_k = op.top_k;
  g.rows.shared_tiles = has_shared ? int32_t(ceil_div(tokens, kExpertTileTokens)) : 0;
  g.hidden = room.hidden;
  g.width = int32_t(width);
  g.fine = fine_hidden;
  g.tables = context.tables;
  const uint32_t tiles =
      uint32_t(tile_bound(pairs, op.expert_count, kExpertTileTokens)) + uint32_t(g.rows.shared_tiles);
  const double experts = double(std::min<int64_t>(pairs, op.expert_count)) + (has_shared ? 1 : 0);
  const double rows = double(pairs + (has_shared ? tokens : 0));
  const auto gate_up_kernel = gate_up_q4 ? gate_up_tiles_kernel<true> : gate_up_tiles_kernel<false>;
  const auto down_kernel = down_q4 ? down_tiles_kernel<true> : down_tiles_kernel<false>;
  allow_shared_bytes(gate_up_kernel, gate_up_shared);
  prefer_shared_memory(gate_up_kernel);
  launch(context, "gate_up_tiles_kernel",
         {"experts gate up", experts * 2 * double(both.gate.row_stride()) * double(width),
          4.0 * rows * double(width) * double(op.x.columns)},
         gate_up_kernel, dim3(uint32_t(width / kBlockOutputs), tiles), dim3(kGemvThreads), gate_up_shared, g);

  d.down = expert_matrix(op.down);
  if (has_shared) d.shared_down = expert_matrix(op.shared_down);
  d.tiles = g.rows;
  d.hidden = room.hidden;
  d.weights = room.route.weights;
  d.logits = op.shared_router != nullptr ? room.logits : nullptr;
  d.logit_stride = op.expert_count + 1;
  d.products = room.products;
  d.width = int32_t(width), d.rows = int32_t(op.down.rows);
  d.tables = context.tables;
  allow_shared_bytes(down_kernel, down_shared);
  prefer_shared_memory(down_kernel);
  launch(context, "down_tiles_kernel",
         {"experts down", experts * double(op.down.matrix_bytes()),
          2.0 * rows * double(op.down.rows) * double(width)},
         down_kernel, dim3(ceil_div(op.down.rows, kDownBlockRows), tiles), dim3(kGemvThreads), down_shared,
         d);
  launch(context, "sum_products_kernel",
         {"moe", rows * double(op.down.rows) * 4, rows * double(op.down.rows)}, sum_products_kernel,
         dim3(ceil_div(op.down.rows, kSumThreads * 4), uint32_t(tokens)), dim3(kSumThreads), 0, room.products,
         int(pairs), op.top_k, has_shared, int(op.down.rows), op.out);
  return true;
}

}  // namespace dw::gpu
