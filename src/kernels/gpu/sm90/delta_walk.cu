// Second kernel of the chunked delta mixer on sm_90 for chunks of 64: walks through the chunks of a span. A
// block has 64 columns of a V head: one warpgroup works on transposed matrices, so that the state stays in
// its registers as the accumulator of an asynchronous product and turns into the left operand of the next
// without leaving them; the right operands are the tiles in shared memory, which a wave of its own fetches
// ahead:
//   X^T = V^T - (S^T K^T) e^G;  Vd^T = X^T T^T;  O^T = (S^T Q^T) e^G / sqrt(d) + Vd^T P^T
//   S^T <- e^(G_C) S^T + (Vd^T e^(G_C - G)) K
// Four finishing waves do norm, gate and quantised output a chunk later; the norm's sums of a head's two
// blocks, a cluster, are sent through shared memory.
#include <cstddef>

#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/attention_wgmma.h"
#include "kernels/gpu/sm90/delta_chunk.h"
#include "kernels/gpu/sm90/delta_cluster.h"
#include "kernels/gpu/sm90/delta_output.h"
#include "kernels/gpu/sm90/delta_ptx.h"
#include "kernels/gpu/sm90/wgmma.h"

namespace dw::gpu::hopper {
namespace {

constexpr int kChunk = 64, kStages = 3;
constexpr int kBlockColumns = 64, kBlockSplits = kHeadDim / kBlockColumns;
// Three warpgroups, the last for one wave's sake: registers move between warpgroups only.
constexpr int kWalkWaves = 4, kFinishers = 4, kWalkThreads = 384;
constexpr int kWalkRegisters = 216, kFinishRegisters = 184, kFetchRegisters = 104;  // 3 * 168
constexpr float kQueryScale = 0.08838834764831845f;                                 // 1 / sqrt(128)

constexpr uint32_t kAlignment = 1024;
struct alignas(kAlignment) WalkStage {
  uint4 k[kChunk * 16], q[kChunk * 16];
  uint4 t[kChunk * 8], p[kChunk * 8];
  uint4 v[2][kChunk * 4];
};
struct WalkShared {
  WalkStage stages[kStages];
  uint4 o[2][kChunk * 8];             // by parity of the chunk
  float factors[kStages][2][kChunk];  // from_start, to_end
  // Sums of squares of o over a block's columns, sent by both blocks. A block may send two chunks before the
  // other has read the first of them, hence four.
  float squares[4][kBlockSplits][kChunk];
  // Filled in two parts: what the chain from state to state needs, and q and p.
  uint64_t full[kStages], full_output[kStages], empty[kStages];
  uint64_t o_ready[2], o_taken[2], squares_ready[4];
};

// D[64, 128] += A[64, 16] B[16, 128], A in registers, B contiguous along its columns.
DW_DEVICE void multiply_columns(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),
        "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
        "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
        "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
        "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]),
        "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]),
        "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Four 8x8 matrices of halves to shared memory, transposed: the inverse of load_matrices_transposed().
DW_DEVICE void store_matrices_transposed(void* row, const uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}

// Columns 16 i .. + 15 of an accumulator as the left operand of step i.
template <int kCount>
DW_DEVICE void to_operand(uint32_t (&a)[4], const float (&x)[kCount], int i) {
#pragma unroll
  for (int j = 0; j < 4; ++j) a[j] = pack_half2(x[8 * i + 2 * j], x[8 * i + 2 * j + 1]);
}

struct WalkPlace {
  int h, half, chunks;
};

// One lane: the tiles of every chunk, as places become free. stride: bytes from chunk to chunk.
DW_DEVICE void fetch_tiles(WalkShared& shared, const uint8_t* keys, const HeadTiles<kChunk>* head, int half,
                           int chunks, int64_t stride) {
  const auto* head_bytes = reinterpret_cast<const uint8_t*>(head);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int slot = chunk % kStages;
    WalkStage& stage = shared.stages[slot];
    auto& factors = shared.factors[slot];
    const int64_t offset = chunk * stride;
    const auto copy = [&](void* to, const void* from, uint32_t bytes, uint64_t* barrier) {
      bulk_load(to, static_cast<const uint8_t*>(from) + offset, bytes, barrier);
    };
    barrier_wait(&shared.empty[slot], (chunk / kStages & 1) ^ 1);
    uint64_t* full = &shared.full[slot];
    barrier_expect(full, sizeof(stage.k) + sizeof(stage.v) + sizeof(stage.t) + sizeof(factors));
    copy(stage.k, keys, sizeof(stage.k), full);
    copy(stage.v, head_bytes + offsetof(HeadTiles<kChunk>, v) + half * sizeof(stage.v), sizeof(stage.v),
         full);
    copy(factors, head_bytes + offsetof(HeadTiles<kChunk>, from_start), sizeof(factors), full);
    copy(stage.t, head_bytes + offsetof(HeadTiles<kChunk>, t), sizeof(stage.t), full);
    full = &shared.full_output[slot];
    barrier_expect(full, sizeof(stage.q) + sizeof(stage.p));
    copy(stage.q, keys + sizeof(stage.k), sizeof(stage.q), full);
    copy(stage.p, head_bytes + offsetof(HeadTiles<kChunk>, p), sizeof(stage.p), full);
  }
}

// What X^T needs beside S^T K^T: V^T as fragments, e^G of the tokens of this lane.
struct Subtrahend {
  uint32_t v[4][4];
  float2 from_start[8];
};
DW_DEVICE void load_values(Subtrahend& of, const WalkStage& stage, const float* from_start, int wave,
                           int lane) {
  const int row = lane / 16 * 8 + lane % 8, piece = 2 * (wave % 2) + (lane / 8 & 1);
#pragma unroll
  for (int n = 0; n < 4; ++n)
    load_matrices_transposed(of.v[n], stage.v[wave / 2] + swizzled<4>(16 * n + row, piece));
#pragma unroll
  for (int n = 0; n < 8; ++n)
    of.from_start[n] = *reinterpret_cast<const float2*>(from_start + 8 * n + 2 * (lane % 4));
}
// X^T from S^T K^T, as operands.
DW_DEVICE void subtract_recalled(uint32_t (&x)[4][4], const float (&c)[32], const Subtrahend& from) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 f = from.from_start[2 * n + i];
      const float2 low = unpack_half2(from.v[n][2 * i]), high = unpack_half2(from.v[n][2 * i + 1]);
      const float* tile = c + 4 * (2 * n + i);
      x[n][2 * i] = pack_half2(fmaf(-f.x, tile[0], low.x), fmaf(-f.y, tile[1], low.y));
      x[n][2 * i + 1] = pack_half2(fmaf(-f.x, tile[2], high.x), fmaf(-f.y, tile[3], high.y));
    }
  }
}

// c[.., token] *= factors[token] * common
DW_DEVICE void scale_tokens(float (&c)[32], const float* factors, float common, int lane) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 f = *reinterpret_cast<const float2*>(factors + 8 * n + 2 * (lane % 4));
    c[4 * n] *= f.x * common, c[4 * n + 1] *= f.y * common;
    c[4 * n + 2] *= f.x * common, c[4 * n + 3] *= f.y * common;
  }
}

// O of a wave's 16 columns, as operands, to rows of tokens.
DW_DEVICE void hand_over(uint4* tile, const uint32_t (&o)[4][4], int wave, int lane) {
  const int row = lane / 16 * 8 + lane % 8, piece = 2 * wave + (lane / 8 & 1);
#pragma unroll
  for (int n = 0; n < 4; ++n) store_matrices_transposed(tile + swizzled<8>(16 * n + row, piece), o[n]);
}

// Steps [begin, begin + kCount) of the product with k or q.
template <int kBegin, int kCount>
DW_DEVICE void multiply_state(float (&d)[32], const uint32_t (&state)[8][4], const uint4* rows) {
  const uint32_t address = shared_address(rows);
#pragma unroll
  for (int step = kBegin; step < kBegin + kCount; ++step)
    wgmma<64>(d, state[step], wgmma_descriptor(address + step / 4 * 8192 + step % 4 * 32), step > 0);
  wgmma_commit();
}
// The product with a triangle.
DW_DEVICE void multiply_triangle(float (&d)[32], const uint32_t (&x)[4][4], const uint4* triangle, bool add) {
  const uint32_t address = shared_address(triangle);
#pragma unroll
  for (int n = 0; n < 4; ++n) wgmma<64>(d, x[n], wgmma_descriptor(address + 32 * n), n > 0 || add);
  wgmma_commit();
}

// The finished O of a chunk goes out.
DW_DEVICE void end_chunk(WalkShared& shared, int chunk, const uint32_t (&o)[4][4], int wave, int lane) {
  const int parity = chunk & 1;
  barrier_wait(&shared.o_taken[parity], (chunk / 2 & 1) ^ 1);
  hand_over(shared.o[parity], o, wave, lane);
  __syncwarp();
  if (lane == 0) barrier_arrive(&shared.o_ready[parity]);
}

// The chain from state to state is K, T, update; whatever O needs runs in its gaps, the last of it while the
// next chunk's K product is under way.
DW_DEVICE void walk(WalkShared& shared, int chunks, float (&s)[64], int wave, int lane) {
  float c[32], o[32];
  uint32_t state[8][4], result[4][4];
#pragma unroll
  for (int step = 0; step < 8; ++step) to_operand(state[step], s, step);
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int slot = chunk % kStages;
    WalkStage& stage = shared.stages[slot];
    const float *from_start = shared.factors[slot][0], *to_end = shared.factors[slot][1];
    barrier_wait(&shared.full[slot], uint32_t(chunk / kStages & 1));
    wgmma_fence();
    multiply_state<0, 8>(c, state, stage.k);
    Subtrahend subtrahend;
    load_values(subtrahend, stage, from_start, wave, lane);
    if (chunk > 0) end_chunk(shared, chunk - 1, result, wave, lane);
    barrier_wait(&shared.full_output[slot], uint32_t(chunk / kStages & 1));
    wgmma_fence();
    multiply_state<0, 4>(o, state, stage.q);
    wgmma_wait<1>();
    sm90::hold(c);
    uint32_t x[4][4];
    subtract_recalled(x, c, subtrahend);
    wgmma_fence();
    multiply_triangle(c, x, stage.t, false);
    multiply_state<4, 4>(o, state, stage.q);
    const float decay = from_start[kChunk - 1];
#pragma unroll
    for (int i = 0; i < 64; ++i) s[i] *= decay;
    sm90::hold(s);
    wgmma_wait<1>();
    sm90::hold(c);
    uint32_t output[4][4], update[4][4];
#pragma unroll
    for (int n = 0; n < 4; ++n) to_operand(output[n], c, n);
    scale_tokens(c, to_end, 1.0f, lane);
#pragma unroll
    for (int n = 0; n < 4; ++n) to_operand(update[n], c, n);
    wgmma_fence();
#pragma unroll
    for (int n = 0; n < 4; ++n)
      multiply_columns(s, update[n],
                       sm90::operand_descriptor(shared_address(stage.k) + 2048 * n, 8192, 1024));
    wgmma_commit();
    wgmma_wait<1>();
    sm90::hold(o);
    scale_tokens(o, from_start, kQueryScale, lane);
    sm90::hold(o);
    wgmma_fence();
    multiply_triangle(o, output, stage.p, true);
    wgmma_wait<1>();
    sm90::hold(s);
#pragma unroll
    for (int step = 0; step < 8; ++step) to_operand(state[step], s, step);
    wgmma_wait<0>();
    sm90::hold(o);
    __syncwarp();
    if (lane == 0) barrier_arrive(&shared.empty[slot]);
#pragma unroll
    for (int n = 0; n < 4; ++n) to_operand(result[n], o, n);
  }
  end_chunk(shared, chunks - 1, result, wave, lane);
}

// Two tokens of a chunk a step: first + 2 i; 16 lanes have a token's 64 columns.
constexpr int kSteps = kChunk / kFinishers / 2;
struct FinisherRows {
  uint2 o[kSteps];
  float4 z[kSteps];
};

DW_DEVICE void load_gates(const ops::DeltaMixer& op, const SpanEntry& span, int first, int column,
                          FinisherRows& rows) {
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const int t = first + 2 * i;
    rows.z[i] = make_float4(0, 0, 0, 0);
    if (t < span.row_count)
      rows.z[i] = __ldcs(
          reinterpret_cast<const float4*>(op.z + (int64_t(span.first_row) + t) * op.out.columns + column));
  }
}

// Norm, gate and output of the rows of a chunk that begins at `start`.
DW_DEVICE void finish_rows(const ops::DeltaMixer& op, const SpanEntry& span, const float (*squares)[kChunk],
                           const FinisherRows& rows, const float4& norm, int start, int first, int column,
                           int lane) {
  float4 x[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const float sum = squares[0][first + 2 * i] + squares[1][first + 2 * i];
    const float factor = rsqrtf(sum / float(kHeadDim) + op.eps);
    const auto gated = [&](float x, float n, float y) { return x * factor * n * approximate_silu(y); };
    const float2 low = unpack_half2(rows.o[i].x), high = unpack_half2(rows.o[i].y);
    const float4 z = rows.z[i];
    x[i] = make_float4(gated(low.x, norm.x, z.x), gated(low.y, norm.y, z.y), gated(high.x, norm.z, z.z),
                       gated(high.y, norm.w, z.w));
  }
  store_steps(op.out, int64_t(span.first_row) + start + first, 2, span.row_count - start - first, column, x,
              lane);
}

// Over 16 lanes: lane i gets the sum of element i / 2, each step halving what a lane is in charge of.
DW_DEVICE float sum_steps(const float (&x)[kSteps], int lane) {
  static_assert(kSteps == 8);
  const bool upper = lane & 8, second = lane & 4, odd = lane & 2;
  float four[4], two[2];
#pragma unroll
  for (int i = 0; i < 4; ++i) four[i] = (upper ? x[4 + i] : x[i]) + lane_xor(upper ? x[i] : x[4 + i], 8);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    two[i] = (second ? four[2 + i] : four[i]) + lane_xor(second ? four[i] : four[2 + i], 4);
  const float mine = (odd ? two[1] : two[0]) + lane_xor(odd ? two[0] : two[1], 2);
  return mine + lane_xor(mine, 1);
}

// Rows finisher * 16 .. + 15 of every chunk. A chunk's sums are sent one round before they are waited for.
DW_DEVICE void run_finisher(const ops::DeltaMixer& op, const SpanEntry& span, WalkShared& shared,
                            const WalkPlace& at, int finisher, int lane) {
  const int own = lane % 16 * 4, first = finisher * (kChunk / kFinishers) + lane / 16;
  const int column = at.h * kHeadDim + at.half * kBlockColumns + own;
  const float4 norm = *reinterpret_cast<const float4*>(op.norm + at.half * kBlockColumns + own);
  FinisherRows now = {}, before = {};
  load_gates(op, span, first, column, now);
  for (int chunk = 0; chunk <= at.chunks; ++chunk) {
    if (chunk < at.chunks) {
      const int parity = chunk & 1;
      uint64_t* sent = &shared.squares_ready[chunk % 4];
      if (finisher == 0 && lane == 0) barrier_expect(sent, kBlockSplits * kChunk * sizeof(float));
      __syncwarp();
      barrier_wait(&shared.o_ready[parity], chunk / 2 & 1);
      float sums[kSteps];
#pragma unroll
      for (int i = 0; i < kSteps; ++i) {
        const uint4* piece = shared.o[parity] + swizzled<8>(first + 2 * i, lane % 16 / 2);
        now.o[i] = reinterpret_cast<const uint2*>(piece)[lane % 2];
        const float2 low = unpack_half2(now.o[i].x), high = unpack_half2(now.o[i].y);
        sums[i] = low.x * low.x + low.y * low.y + high.x * high.x + high.y * high.y;
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.o_taken[parity]);
      // Lane i of a token's 16 sends step i / 2's sum to block i % 2.
      const float sum = sum_steps(sums, lane);
      send(&shared.squares[chunk % 4][at.half][first + 2 * (lane % 16 / 2)], uint32_t(lane % 2), sum, sent);
    }
    if (chunk > 0) {
      const int slot = (chunk - 1) % 4;
      barrier_wait(&shared.squares_ready[slot], (chunk - 1) / 4 & 1);
      finish_rows(op, span, shared.squares[slot], before, norm, (chunk - 1) * kChunk, first, column, lane);
    }
    before = now;
    load_gates(op, span, (chunk + 1) * kChunk + first, column, now);
  }
}

DW_DEVICE void init_barriers(WalkShared& shared) {
  for (int i = 0; i < kStages; ++i) {
    barrier_init(&shared.full[i], 1);
    barrier_init(&shared.full_output[i], 1);
    barrier_init(&shared.empty[i], kWalkWaves);
  }
  for (int parity = 0; parity < 2; ++parity) {
    barrier_init(&shared.o_ready[parity], kWalkWaves);
    barrier_init(&shared.o_taken[parity], kFinishers);
  }
  for (int i = 0; i < 4; ++i) barrier_init(&shared.squares_ready[i], 1);
  barriers_ready();
}

template <int kRatio>
__global__ void __cluster_dims__(kBlockSplits, 1, 1) __launch_bounds__(kWalkThreads, 1)
    delta_walk_kernel(ops::DeltaMixer op, BatchTable batch, int chunked_from,
                      const ChunkTiles<kChunk, kRatio>* tiles) {
  // Swizzled tiles count on addresses that are multiples of 1024.
  const uint32_t gap = (kAlignment - shared_address(shared_memory()) % kAlignment) % kAlignment;
  WalkShared& shared = *reinterpret_cast<WalkShared*>(shared_memory() + gap);
  const int wave = threadIdx.x / 32, lane = threadIdx.x % 32;
  const SpanEntry span = batch.spans[blockIdx.z];  // written before the step's first kernel
  if (span.row_count < chunked_from) {
    wait_for_previous();  // whoever waits for this grid waits for all in front of it
    return;
  }
  if (threadIdx.x == 0) init_barriers(shared);
  const WalkPlace at = {int(blockIdx.y), int(blockIdx.x), chunks_of(span, kChunk, chunked_from)};
  tiles += int64_t(chunks_before(batch, blockIdx.z, kChunk, chunked_from)) * op.k_heads + at.h / kRatio;
  __syncthreads();
  cluster_arrive_relaxed();
  cluster_wait();

  if (wave >= kWalkWaves && wave < kWalkWaves + kFinishers) {
    sm90::take_registers<kFinishRegisters>();
    wait_for_previous();
    allow_next();
    run_finisher(op, span, shared, at, wave - kWalkWaves, lane);
    return;
  }
  if (wave >= kWalkWaves + kFinishers) {
    sm90::give_registers<kFetchRegisters>();
    wait_for_previous();
    allow_next();
    if (wave > kWalkWaves + kFinishers) return;
    if (lane == 0)
      fetch_tiles(shared, reinterpret_cast<const uint8_t*>(tiles->k), &tiles->heads[at.h % kRatio], at.half,
                  at.chunks, int64_t(op.k_heads) * int64_t(sizeof(ChunkTiles<kChunk, kRatio>)));
    __syncwarp();
    // The first kernel, which reads the old rows of the convolution's state, is over.
    const int64_t keys = int64_t(op.k_heads) * kHeadDim;
    const int first = at.half * kBlockColumns;
    keep_newest_rows(op, span, 2 * keys + at.h * kHeadDim + first, kBlockColumns, lane, 32);
    if (at.h % kRatio == 0) {
      const int64_t key = int64_t(at.h / kRatio) * kHeadDim + first;
      keep_newest_rows(op, span, key, kBlockColumns, lane, 32);
      keep_newest_rows(op, span, keys + key, kBlockColumns, lane, 32);
    }
    return;
  }
  sm90::take_registers<kWalkRegisters>();
  // S^T: columns 16 wave + lane / 4 (+ 8) of the block's, rows 8 n + 2 (lane % 4), + 1. No kernel of this
  // step has written it.
  float s[64];
  float* state = op.state + (int64_t(span.slot) * op.v_heads + at.h) * kHeadDim * kHeadDim +
                 at.half * kBlockColumns + 16 * wave + lane / 4;
  const auto cell = [&](int i) {
    return state + (i / 4 * 8 + 2 * (lane % 4) + i % 2) * kHeadDim + i / 2 % 2 * 8;
  };
#pragma unroll
  for (int i = 0; i < 64; ++i) s[i] = *cell(i);
  wait_for_previous();
  allow_next();
  walk(shared, at.chunks, s, wave, lane);
#pragma unroll
  for (int i = 0; i < 64; ++i) *cell(i) = s[i];
}

}  // namespace

template <int kRatio>
void walk_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from,
                 const ChunkTiles<kChunk, kRatio>* tiles) {
  constexpr size_t kShared = sizeof(WalkShared) + kAlignment;
  static_assert(kShared <= 227 * 1024);
  const double tile_bytes = double(op.tokens) / kChunk * op.k_heads * sizeof(ChunkTiles<kChunk, kRatio>);
  const double elements = double(op.tokens) * double(op.out.columns);
  const double cells = double(op.v_heads) * kHeadDim * kHeadDim;
  allow_shared_bytes(delta_walk_kernel<kRatio>, kShared);
  launch(context, "delta_walk_kernel",
         {"delta", tile_bytes + elements * 9.25 + 8 * cells * context.batch.span_count,
          double(op.tokens) * op.v_heads * kHeadDim * (6 * kHeadDim + 4 * kChunk)},
         delta_walk_kernel<kRatio>,
         dim3(kBlockSplits, uint32_t(op.v_heads), uint32_t(context.batch.span_count)), dim3(kWalkThreads),
         kShared, op, context.batch, chunked_from, tiles);
}

template void walk_chunks<1>(Context&, const ops::DeltaMixer&, int32_t, const ChunkTiles<kChunk, 1>*);
template void walk_chunks<2>(Context&, const ops::DeltaMixer&, int32_t, const ChunkTiles<kChunk, 2>*);
template void walk_chunks<4>(Context&, const ops::DeltaMixer&, int32_t, const ChunkTiles<kChunk, 4>*);

}  // namespace dw::gpu::hopper
