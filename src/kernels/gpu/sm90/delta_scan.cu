// Second kernel of the chunked delta mixer on sm_90: walks through the chunks of a span. A block has 32
// columns of a V head; a pair of waves has 16 of them and works on transposed matrices, so that the state
// stays in the registers of one wave as the accumulator of a matrix product and turns into the operand of the
// next without leaving them:
//   state wave:   X^T = V^T - (S^T K^T) e^G;  Vd^T = X^T T^T;  S^T <- e^(G_C) S^T + (Vd^T e^(G_C - G)) K
//   output wave:  O^T = (S^T Q^T) e^G / sqrt(d) + Vd^T P^T
// Four finishing waves do norm, gate and quantised output; the norm's sums of the four blocks of a head, a
// cluster, are exchanged through shared memory. The first of them fetches the tiles ahead. (A ninth wave for
// that would cost a third of everybody's registers.)
#include "kernels/gpu/activations.h"
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/delta_chunk.h"
#include "kernels/gpu/sm90/delta_cluster.h"
#include "kernels/gpu/sm90/delta_ptx.h"

namespace dw::gpu::hopper {
namespace {

constexpr int kPairs = 2, kFinishers = 4;
constexpr int kScanThreads = 32 * (2 * kPairs + kFinishers);
constexpr float kQueryScale = 0.08838834764831845f;  // 1 / sqrt(128)

template <int kChunk>
struct Stage {
  uint4 k[kChunk * 16], q[kChunk * 16];
  uint4 t[kChunk * kChunk / 8], p[kChunk * kChunk / 8];
  float from_start[kChunk], to_end[kChunk];
  uint4 v[kChunk * 4];
};

template <int kChunk>
struct ScanShared {
  static constexpr int kStages = kChunk == 64 ? 3 : 4;
  static constexpr int kRow = kSplitColumns + 4;
  Stage<kChunk> stages[kStages];
  // By parity of the chunk:
  uint4 state[2][kPairs][8][32];             // S^T as operands, from the state wave to the output wave
  uint4 values[2][kPairs][kChunk / 16][32];  // Vd^T
  float o[2][kChunk][kRow];
  // Sums of squares of o over a block's columns, sent by the cluster's blocks. A block may send two chunks
  // before another has read the first of them, hence four.
  float squares[4][kSplits][kChunk];
  uint64_t full[kStages], empty[kStages];
  uint64_t state_ready[2][kPairs], values_ready[2][kPairs], taken[2][kPairs];
  uint64_t o_ready[2], o_taken[2], squares_ready[4];
};

// Row and 16-byte piece of the address that this lane gives to load_matrices() for two 8-column tiles of a
// column operand whose columns are rows of memory: r[0], r[1] are of the first tile, r[2], r[3] of the
// second.
DW_DEVICE int operand_row(int lane) {
  return lane / 16 * 8 + lane % 8;
}
DW_DEVICE int operand_piece(int lane) {
  return lane / 8 & 1;
}

// c[16, kChunk] += a[16, 128] rows^T; rows: [kChunk][128].
template <int kChunk>
DW_DEVICE void multiply_rows(float (&c)[kChunk / 8][4], const uint32_t (&a)[8][4], const uint4* rows,
                             int lane) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
#pragma unroll
    for (int n = 0; n < kChunk / 16; ++n) {
      uint32_t b[4];
      load_matrices(b, rows + swizzled<16>(16 * n + operand_row(lane), 2 * step + operand_piece(lane)));
      multiply_16x8x16(c[2 * n], a[step], b[0], b[1]);
      multiply_16x8x16(c[2 * n + 1], a[step], b[2], b[3]);
    }
  }
}

// c[16, kChunk] += a[16, kChunk] triangle^T; triangle: [kChunk][kChunk], lower.
template <int kChunk>
DW_DEVICE void multiply_triangle(float (&c)[kChunk / 8][4], const uint32_t (&a)[kChunk / 16][4],
                                 const uint4* triangle, int lane) {
#pragma unroll
  for (int step = 0; step < kChunk / 16; ++step) {
#pragma unroll
    for (int n = step; n < kChunk / 16; ++n) {
      uint32_t b[4];
      load_matrices(
          b, triangle + swizzled<kChunk / 8>(16 * n + operand_row(lane), 2 * step + operand_piece(lane)));
      multiply_16x8x16(c[2 * n], a[step], b[0], b[1]);
      multiply_16x8x16(c[2 * n + 1], a[step], b[2], b[3]);
    }
  }
}

// Accumulators of two neighbouring tiles as the operand of a step.
DW_DEVICE void to_operand(uint32_t (&a)[4], const float (&x)[4], const float (&y)[4]) {
  a[0] = pack_half2(x[0], x[1]), a[1] = pack_half2(x[2], x[3]);
  a[2] = pack_half2(y[0], y[1]), a[3] = pack_half2(y[2], y[3]);
}
DW_DEVICE uint4 as_uint4(const uint32_t (&a)[4]) {
  return make_uint4(a[0], a[1], a[2], a[3]);
}
DW_DEVICE void from_uint4(uint32_t (&a)[4], const uint4& x) {
  a[0] = x.x, a[1] = x.y, a[2] = x.z, a[3] = x.w;
}
// c[.., token] *= factors[token]
DW_DEVICE void scale_columns(float (&c)[4], const float* factors, float common) {
  const float2 f = *reinterpret_cast<const float2*>(factors);
  c[0] *= f.x * common, c[1] *= f.y * common, c[2] *= f.x * common, c[3] *= f.y * common;
}

struct Place {
  int h, split, chunks, pair, lane;
};

template <int kChunk>
DW_DEVICE void run_state_wave(ScanShared<kChunk>& shared, const Place& at, float* state) {
  using Shared = ScanShared<kChunk>;
  const int lane = at.lane, pair = at.pair, token = 2 * (lane % 4);
  float s[16][4];  // S^T: column lane / 4 (+ 8) of the state, rows 8 n + token, + 1
  state += 16 * pair + lane / 4;
#pragma unroll
  for (int n = 0; n < 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[n][i] = state[(8 * n + token + i % 2) * kHeadDim + i / 2 * 8];
  }
  for (int chunk = 0; chunk < at.chunks; ++chunk) {
    const int slot = chunk % Shared::kStages, parity = chunk & 1;
    const uint32_t phase = chunk / 2 & 1;
    Stage<kChunk>& stage = shared.stages[slot];
    uint32_t operand[8][4];
#pragma unroll
    for (int step = 0; step < 8; ++step) to_operand(operand[step], s[2 * step], s[2 * step + 1]);
    barrier_wait(&shared.taken[parity][pair], phase ^ 1);
#pragma unroll
    for (int step = 0; step < 8; ++step) shared.state[parity][pair][step][lane] = as_uint4(operand[step]);
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.state_ready[parity][pair]);

    barrier_wait(&shared.full[slot], chunk / Shared::kStages & 1);
    float c[kChunk / 8][4] = {};
    multiply_rows<kChunk>(c, operand, stage.k, lane);
    uint32_t x[kChunk / 16][4];
#pragma unroll
    for (int n = 0; n < kChunk / 16; ++n) {
      uint32_t v[4];
      load_matrices_transposed(
          v, stage.v + swizzled<4>(16 * n + operand_row(lane), 2 * pair + operand_piece(lane)));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scale_columns(c[2 * n + i], stage.from_start + 16 * n + 8 * i + token, -1.0f);
        const float2 low = unpack_half2(v[2 * i]), high = unpack_half2(v[2 * i + 1]);
        c[2 * n + i][0] += low.x, c[2 * n + i][1] += low.y, c[2 * n + i][2] += high.x,
            c[2 * n + i][3] += high.y;
      }
      to_operand(x[n], c[2 * n], c[2 * n + 1]);
    }
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
    multiply_triangle<kChunk>(c, x, stage.t, lane);
#pragma unroll
    for (int n = 0; n < kChunk / 16; ++n) {
      uint32_t vd[4];
      to_operand(vd, c[2 * n], c[2 * n + 1]);
      shared.values[parity][pair][n][lane] = as_uint4(vd);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.values_ready[parity][pair]);

    const float decay = stage.from_start[kChunk - 1];
#pragma unroll
    for (int n = 0; n < 16; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[n][i] *= decay;
    }
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
      scale_columns(c[2 * step], stage.to_end + 16 * step + token, 1.0f);
      scale_columns(c[2 * step + 1], stage.to_end + 16 * step + 8 + token, 1.0f);
      uint32_t vd[4];
      to_operand(vd, c[2 * step], c[2 * step + 1]);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        uint32_t b[4];
        load_matrices_transposed(b, stage.k + swizzled<16>(16 * step + lane % 16, 2 * n + lane / 16));
        multiply_16x8x16(s[2 * n], vd, b[0], b[1]);
        multiply_16x8x16(s[2 * n + 1], vd, b[2], b[3]);
      }
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.empty[slot]);
  }
#pragma unroll
  for (int n = 0; n < 16; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state[(8 * n + token + i % 2) * kHeadDim + i / 2 * 8] = s[n][i];
  }
}

template <int kChunk>
DW_DEVICE void run_output_wave(ScanShared<kChunk>& shared, const Place& at) {
  using Shared = ScanShared<kChunk>;
  const int lane = at.lane, pair = at.pair, token = 2 * (lane % 4);
  for (int chunk = 0; chunk < at.chunks; ++chunk) {
    const int slot = chunk % Shared::kStages, parity = chunk & 1;
    const uint32_t phase = chunk / 2 & 1;
    Stage<kChunk>& stage = shared.stages[slot];
    barrier_wait(&shared.full[slot], chunk / Shared::kStages & 1);
    barrier_wait(&shared.state_ready[parity][pair], phase);
    uint32_t operand[8][4];
#pragma unroll
    for (int step = 0; step < 8; ++step) from_uint4(operand[step], shared.state[parity][pair][step][lane]);
    float c[kChunk / 8][4] = {};
    multiply_rows<kChunk>(c, operand, stage.q, lane);
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) scale_columns(c[n], stage.from_start + 8 * n + token, kQueryScale);
    barrier_wait(&shared.values_ready[parity][pair], phase);
    uint32_t vd[kChunk / 16][4];
#pragma unroll
    for (int n = 0; n < kChunk / 16; ++n) from_uint4(vd[n], shared.values[parity][pair][n][lane]);
    multiply_triangle<kChunk>(c, vd, stage.p, lane);
    __syncwarp();
    if (lane == 0) {
      barrier_arrive(&shared.taken[parity][pair]);
      barrier_arrive(&shared.empty[slot]);
    }
    barrier_wait(&shared.o_taken[parity], phase ^ 1);
    const int column = 16 * pair + lane / 4;
#pragma unroll
    for (int n = 0; n < kChunk / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) shared.o[parity][8 * n + token + i % 2][column + i / 2 * 8] = c[n][i];
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.o_ready[parity]);
  }
}

// Four columns of a row: values, quants, and the sums and scale of their groups; eight lanes have a group of
// 32, and whole waves take part. Rows that are not `inside` write nothing.
DW_DEVICE void store_four(const ops::Activations& out, int64_t row, int column, float4 x, int lane,
                          bool inside) {
  const int64_t at = row * out.columns + column;
  if (inside) *reinterpret_cast<float4*>(out.values + at) = x;
  if (out.quants == nullptr) return;
  const float largest = lanes_max<8>(fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w))));
  const float d = largest / 127.0f;
  const auto quant = [&](float v) { return d == 0 ? 0 : __float2int_rn(__fdiv_rn(v, d)); };
  const int q[4] = {quant(x.x), quant(x.y), quant(x.z), quant(x.w)};
  const int sum = lanes_sum_int<4>(q[0] + q[1] + q[2] + q[3]);
  if (!inside) return;
  *reinterpret_cast<char4*>(out.quants + at) =
      make_char4(static_cast<signed char>(q[0]), static_cast<signed char>(q[1]),
                 static_cast<signed char>(q[2]), static_cast<signed char>(q[3]));
  if (lane % 4 == 0) out.sums[at / 16] = int16_t(sum);
  if (lane % 8 == 0) out.scales[at / 32] = d;
}

// Where a block's tiles of chunk i lie: i * stride further on.
template <int kChunk>
struct TileSource {
  const uint8_t *keys, *head, *values;  // k and q; t, p and the factors; v
  int64_t stride;
};

// Starts the copy of a chunk's tiles; one lane.
template <int kChunk>
DW_DEVICE void fetch_tiles(ScanShared<kChunk>& shared, const TileSource<kChunk>& from, int chunk) {
  using Shared = ScanShared<kChunk>;
  const int slot = chunk % Shared::kStages;
  const int64_t offset = chunk * from.stride;
  Stage<kChunk>& stage = shared.stages[slot];
  uint64_t* full = &shared.full[slot];
  barrier_wait(&shared.empty[slot], (chunk / Shared::kStages & 1) ^ 1);
  barrier_expect(full, sizeof(stage));
  bulk_load(stage.k, from.keys + offset, sizeof(stage.k) + sizeof(stage.q), full);
  bulk_load(stage.t, from.head + offset, sizeof(stage.t) + sizeof(stage.p) + 2 * sizeof(stage.to_end), full);
  bulk_load(stage.v, from.values + offset, sizeof(stage.v), full);
}

// The rows of a chunk that a lane of a finishing wave has four columns of: first + 4 i.
template <int kChunk>
struct FinisherRows {
  float4 o[kChunk / 16], z[kChunk / 16];
};

template <int kChunk>
DW_DEVICE void load_gates(const ops::DeltaMixer& op, const SpanEntry& span, int first, int column,
                          FinisherRows<kChunk>& rows) {
#pragma unroll
  for (int i = 0; i < kChunk / 16; ++i) {
    const int t = first + 4 * i;
    rows.z[i] = make_float4(0, 0, 0, 0);
    if (t < span.row_count)
      rows.z[i] =
          *reinterpret_cast<const float4*>(op.z + (int64_t(span.first_row) + t) * op.out.columns + column);
  }
}

// Rows finisher * kChunk / 4 .. of every chunk; eight lanes a row. A chunk's sums are sent one round before
// they are waited for.
template <int kChunk>
DW_DEVICE void run_finisher(const ops::DeltaMixer& op, const SpanEntry& span, ScanShared<kChunk>& shared,
                            const Place& at, int finisher, const TileSource<kChunk>& tiles) {
  constexpr int kSteps = kChunk / 16, kStages = ScanShared<kChunk>::kStages;
  const int lane = at.lane, column = lane % 8 * 4, first = finisher * (kChunk / 4) + lane / 8;
  const int global_column = at.h * kHeadDim + at.split * kSplitColumns + column;
  const float4 norm = *reinterpret_cast<const float4*>(op.norm + at.split * kSplitColumns + column);
  const bool fetches = finisher == 0 && lane == 0;
  if (fetches) {
    for (int chunk = 0; chunk < at.chunks && chunk < kStages; ++chunk) fetch_tiles(shared, tiles, chunk);
  }
  __syncwarp();
  FinisherRows<kChunk> now = {}, before = {};
  load_gates(op, span, first, global_column, now);
  for (int chunk = 0; chunk <= at.chunks; ++chunk) {
    if (chunk < at.chunks) {
      const int parity = chunk & 1;
      // The output of the chunk before is done: its stage is about to be free.
      if (fetches && chunk > 0 && chunk - 1 + kStages < at.chunks)
        fetch_tiles(shared, tiles, chunk - 1 + kStages);
      if (fetches) barrier_expect(&shared.squares_ready[chunk % 4], kSplits * kChunk * sizeof(float));
      __syncwarp();
      barrier_wait(&shared.o_ready[parity], chunk / 2 & 1);
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const int t = first + 4 * i;
        const float4 o = *reinterpret_cast<const float4*>(&shared.o[parity][t][column]);
        now.o[i] = o;
        const float sum = lanes_sum<8>(o.x * o.x + o.y * o.y + o.z * o.z + o.w * o.w);
        if (lane % 8 < kSplits)
          send(&shared.squares[chunk % 4][at.split][t], uint32_t(lane % 8), sum,
               &shared.squares_ready[chunk % 4]);
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.o_taken[parity]);
    }
    if (chunk > 0) {
      const int slot = (chunk - 1) % 4, start = (chunk - 1) * kChunk;
      barrier_wait_cluster(&shared.squares_ready[slot], (chunk - 1) / 4 & 1);
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const int t = first + 4 * i;
        float sum = 0;
#pragma unroll
        for (int part = 0; part < kSplits; ++part) sum += shared.squares[slot][part][t];
        const float factor = rsqrtf(sum / float(kHeadDim) + op.eps);
        const auto gated = [&](float x, float n, float y) { return x * factor * n * approximate_silu(y); };
        const float4 o = before.o[i], z = before.z[i];
        store_four(op.out, int64_t(span.first_row) + start + t, global_column,
                   make_float4(gated(o.x, norm.x, z.x), gated(o.y, norm.y, z.y), gated(o.z, norm.z, z.z),
                               gated(o.w, norm.w, z.w)),
                   lane, start + t < span.row_count);
      }
    }
    before = now;
    load_gates(op, span, (chunk + 1) * kChunk + first, global_column, now);
  }
}

template <int kChunk>
DW_DEVICE void init_barriers(ScanShared<kChunk>& shared) {
  for (int i = 0; i < ScanShared<kChunk>::kStages; ++i) {
    barrier_init(&shared.full[i], 1);
    barrier_init(&shared.empty[i], 2 * kPairs);
  }
  for (int parity = 0; parity < 2; ++parity) {
    for (int pair = 0; pair < kPairs; ++pair) {
      barrier_init(&shared.state_ready[parity][pair], 1);
      barrier_init(&shared.values_ready[parity][pair], 1);
      barrier_init(&shared.taken[parity][pair], 1);
    }
    barrier_init(&shared.o_ready[parity], kPairs);
    barrier_init(&shared.o_taken[parity], kFinishers);
  }
  for (int i = 0; i < 4; ++i) barrier_init(&shared.squares_ready[i], 1);
  barriers_ready();
}

template <int kChunk, int kRatio>
__global__ void __cluster_dims__(kSplits, 1, 1) __launch_bounds__(kScanThreads, 1)
    delta_scan_kernel(ops::DeltaMixer op, BatchTable batch, int chunked_from,
                      const ChunkTiles<kChunk, kRatio>* tiles) {
  using Shared = ScanShared<kChunk>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = threadIdx.x, wave = thread / 32;
  const SpanEntry span = batch.spans[blockIdx.z];  // written before the step's first kernel
  if (span.row_count < chunked_from) return;
  if (thread == 0) init_barriers(shared);
  Place at;
  at.h = blockIdx.y, at.split = int(cluster_rank()), at.lane = thread % 32, at.pair = wave % kPairs;
  at.chunks = chunks_of(span, kChunk, chunked_from);
  tiles += int64_t(chunks_before(batch, blockIdx.z, kChunk, chunked_from)) * op.k_heads + at.h / kRatio;
  __syncthreads();
  cluster_arrive();
  cluster_wait();
  wait_for_previous();
  allow_next();

  if (wave < kPairs) {
    run_state_wave<kChunk>(
        shared, at,
        op.state + (int64_t(span.slot) * op.v_heads + at.h) * kHeadDim * kHeadDim + at.split * kSplitColumns);
  } else if (wave < 2 * kPairs) {
    run_output_wave<kChunk>(shared, at);
  } else {
    const int finisher = wave - 2 * kPairs;
    const HeadTiles<kChunk>& head = tiles->heads[at.h % kRatio];
    const TileSource<kChunk> source = {reinterpret_cast<const uint8_t*>(tiles->k),
                                       reinterpret_cast<const uint8_t*>(head.t),
                                       reinterpret_cast<const uint8_t*>(head.v[at.split]),
                                       int64_t(op.k_heads) * int64_t(sizeof(ChunkTiles<kChunk, kRatio>))};
    run_finisher<kChunk>(op, span, shared, at, finisher, source);
    // The first kernel, which reads the old rows of the convolution's state, is over.
    const int64_t keys = int64_t(op.k_heads) * kHeadDim;
    const int first = at.split * kSplitColumns;
    if (finisher == 1)
      keep_newest_rows(op, span, 2 * keys + at.h * kHeadDim + first, kSplitColumns, at.lane, 32);
    if (finisher > 1 && at.h % kRatio == 0) {
      const int64_t side = finisher == 2 ? 0 : keys;
      keep_newest_rows(op, span, side + at.h / kRatio * kHeadDim + first, kSplitColumns, at.lane, 32);
    }
  }
  // No block leaves while another may still write into its shared memory.
  __syncwarp();
  cluster_arrive();
  cluster_wait();
}

}  // namespace

template <int kChunk, int kRatio>
void scan_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from,
                 const ChunkTiles<kChunk, kRatio>* tiles) {
  constexpr size_t kShared = sizeof(ScanShared<kChunk>);
  static_assert(kShared <= 227 * 1024);
  const double tile_bytes = double(op.tokens) / kChunk * op.k_heads * sizeof(ChunkTiles<kChunk, kRatio>);
  const double elements = double(op.tokens) * double(op.out.columns);
  const double cells = double(op.v_heads) * kHeadDim * kHeadDim;
  allow_shared_bytes(delta_scan_kernel<kChunk, kRatio>, kShared);
  launch(context, "delta_scan_kernel",
         {"delta", tile_bytes + elements * 9.25 + 8 * cells * context.batch.span_count,
          double(op.tokens) * op.v_heads * kHeadDim * (6 * kHeadDim + 4 * kChunk)},
         delta_scan_kernel<kChunk, kRatio>,
         dim3(kSplits, uint32_t(op.v_heads), uint32_t(context.batch.span_count)), dim3(kScanThreads), kShared,
         op, context.batch, chunked_from, tiles);
}

#define DW_INSTANTIATE(chunk, ratio)                                                 \
  template void scan_chunks<chunk, ratio>(Context&, const ops::DeltaMixer&, int32_t, \
                                          const ChunkTiles<chunk, ratio>*);
DW_INSTANTIATE(16, 1)
DW_INSTANTIATE(16, 2)
DW_INSTANTIATE(16, 4)
DW_INSTANTIATE(32, 1)
DW_INSTANTIATE(32, 2)
DW_INSTANTIATE(32, 4)
#undef DW_INSTANTIATE

}  // namespace dw::gpu::hopper
