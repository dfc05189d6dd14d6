// One token of the delta rule on a state that lies in the registers of a wave, and the pieces that all
// kernels of the delta mixer share: gates, the rows kept for the convolution, the search for a chunk.
#pragma once

#include "kernels/gpu/compat.h"
#include "kernels/gpu/context.h"

namespace dw::gpu {

DW_DEVICE int64_t channels_of(const ops::DeltaMixer& op) {
  return 2 * int64_t(op.k_heads) * op.k_dim + int64_t(op.v_heads) * op.v_dim;
}

struct Gates {
  float g, beta;
};

// The gates of V head h; ba: the token's row.
DW_DEVICE Gates delta_gates(const ops::DeltaMixer& op, const float* ba, int h) {
  const int ratio = op.v_heads / op.k_heads;
  const float* pair = ba + (h / ratio) * 2 * ratio + h % ratio;
  const float x = pair[ratio] + op.dt_bias[h];
  const float softplus = x > 20.0f ? x : log1pf(expf(x));
  return {op.a[h] * softplus, 1.0f / (1.0f + expf(-pair[0]))};
}

// Moves the newest raw rows of a span into the state of the convolution, channels [first, first + count). For
// kernels behind whose launch nobody reads the old rows.
DW_DEVICE void keep_newest_rows(const ops::DeltaMixer& op, const SpanEntry& span, int64_t first, int count,
                                int thread, int threads) {
  const int64_t channels = channels_of(op);
  const int kept = op.conv_taps - 1;
  float* state = op.conv_state + int64_t(span.slot) * kept * channels + first;
  const float* rows = op.qkv + int64_t(span.first_row) * channels + first;
  constexpr int kTogether = 4;  // loads before the first store: rows are not waited for one by one
  for (int c = thread; c < count; c += threads) {
    for (int j0 = 0; j0 < kept; j0 += kTogether) {
      float x[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const int from = j0 + i + span.row_count;  // of the old rows, then the new
        if (j0 + i < kept)
          x[i] = from < kept ? state[from * channels + c] : rows[int64_t(from - kept) * channels + c];
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (j0 + i < kept) state[(j0 + i) * channels + c] = x[i];
      }
    }
  }
}

// What one V head of a token multiplies with. k and q may lie there not yet normalised: the factors do it.
struct TokenFactors {
  float decay, beta;
  float k;   // of k
  float q;   // of q, with 1 / sqrt(k_dim) in it
  float kq;  // k . q, with both factors in it
};

// 128 rows (k) of 4 * kTileQuads columns (v) of one head's state, held by a wave: lane = group * kTileQuads +
// quad has columns 4 quad .. 4 quad + 3 of the rows 16 i + group.
inline constexpr int kTileQuads = kWave / 16;
inline constexpr int kTileColumns = 4 * kTileQuads;
struct StateTile {
  float s[8][4];
};

DW_DEVICE int tile_quad(int lane) {
  return lane % kTileQuads;
}
DW_DEVICE int tile_group(int lane) {
  return lane / kTileQuads;
}
// The column of the tile whose result delta_step() leaves in this lane (four lanes have the same).
DW_DEVICE int tile_result_column(int lane) {
  return 4 * tile_quad(lane) + ((tile_group(lane) >> 1) & 3);
}

// state: at the tile's first column; stride: floats from row to row.
DW_DEVICE void load_tile(StateTile& tile, const float* state, int stride, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 v =
        *reinterpret_cast<const float4*>(state + (16 * i + tile_group(lane)) * stride + 4 * tile_quad(lane));
    tile.s[i][0] = v.x, tile.s[i][1] = v.y, tile.s[i][2] = v.z, tile.s[i][3] = v.w;
  }
}
DW_DEVICE void store_tile(const StateTile& tile, float* state, int stride, int lane) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    *reinterpret_cast<float4*>(state + (16 * i + tile_group(lane)) * stride + 4 * tile_quad(lane)) =
        make_float4(tile.s[i][0], tile.s[i][1], tile.s[i][2], tile.s[i][3]);
  }
}

// S <- e^g S + k d^T with d = beta (v - e^g S^T k); returns o = S^T q of the column tile_result_column(lane),
// from the old state: o = e^g S^T q + (k . q) d. k, q: [128] in shared memory; v: of that column.
DW_DEVICE float delta_step(StateTile& tile, const float* k, const float* q, float v, const TokenFactors& f,
                           int lane) {
  const int group = tile_group(lane);
  float sums[8] = {};  // S^T k of four columns, S^T q of four columns
  float keys[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    keys[i] = k[16 * i + group];
    const float query = q[16 * i + group];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      sums[c] = fmaf(tile.s[i][c], keys[i], sums[c]);
      sums[4 + c] = fmaf(tile.s[i][c], query, sums[4 + c]);
    }
  }
  // Over the 16 groups, each step halving what a lane is in charge of.
  const bool upper = group & 8, second = group & 4, odd = group & 2;
  float four[4], two[2];
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const float other = lane_xor(upper ? sums[c] : sums[4 + c], 8 * kTileQuads);
    four[c] = (upper ? sums[4 + c] : sums[c]) + other;
  }
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float other = lane_xor(second ? four[c] : four[2 + c], 4 * kTileQuads);
    two[c] = (second ? four[2 + c] : four[c]) + other;
  }
  float mine = (odd ? two[1] : two[0]) + lane_xor(odd ? two[0] : two[1], 2 * kTileQuads);
  mine += lane_xor(mine, kTileQuads);
  const float other = lane_xor(mine, 8 * kTileQuads);
  const float recalled = (upper ? other : mine) * f.k, read = (upper ? mine : other) * f.q;
  const float d = f.beta * (v - f.decay * recalled);
  const float o = fmaf(f.kq, d, f.decay * read);
  const float scaled = d * f.k;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const float of_column = lane_read(scaled, ((group & 9) | c << 1) * kTileQuads + tile_quad(lane));
#pragma unroll
    for (int i = 0; i < 8; ++i) tile.s[i][c] = fmaf(keys[i], of_column, f.decay * tile.s[i][c]);
  }
  return o;
}

// One chunk of a span that runs in chunks.
struct ChunkPlace {
  int span;   // -1: none
  int first;  // row of the batch
  int count;  // rows
};

DW_DEVICE int chunks_of(const SpanEntry& span, int chunk, int chunked_from) {
  return span.row_count >= chunked_from ? (span.row_count + chunk - 1) / chunk : 0;
}

// Chunk `index` of the batch, the chunks counted span after span. Whole waves call it.
DW_DEVICE ChunkPlace find_chunk(const BatchTable& batch, int index, int chunk, int chunked_from) {
  const int lane = threadIdx.x % kWave;
  for (int base = 0; base < batch.span_count; base += kWave) {
    int before = 0, own = 0;
    if (base + lane < batch.span_count) own = chunks_of(batch.spans[base + lane], chunk, chunked_from);
    before = own;
    for (int step = 1; step < kWave; step *= 2) {
      const int other = lane_read(before, lane - step);
      if (lane >= step) before += other;
    }
    const int total = lane_read(before, kWave - 1);
    if (index < total) {
      const bool here = index < before && index >= before - own;
      const int s = lanes_sum_int(here ? base + lane : 0);
      const int start = lanes_sum_int(here ? before - own : 0);
      const SpanEntry span = batch.spans[s];
      const int at = (index - start) * chunk;
      return {s, span.first_row + at, span.row_count - at < chunk ? span.row_count - at : chunk};
    }
    index -= total;
  }
  return {-1, 0, 0};
}

// The number of chunks in front of span s. Whole waves call it.
DW_DEVICE int chunks_before(const BatchTable& batch, int s, int chunk, int chunked_from) {
  int count = 0;
  for (int i = threadIdx.x % kWave; i < s; i += kWave)
    count += chunks_of(batch.spans[i], chunk, chunked_from);
  return lanes_sum_int(count);
}

}  // namespace dw::gpu
