// The portable delta mixer in chunks, fp32 (WY form): a kernel over chunks x heads makes the two triangles of
// a chunk, a second walks through the chunks of a span with the state in shared memory, 32 columns a block.
//   T = (I + tril(beta K K^T o D, -1))^-1,  D_ij = e^(G_i - G_j)
//   Vd = T beta (V - e^G K S)   O = e^G (Q S) + P Vd, P = Q K^T o D   S <- e^(G_C) S + K^T (e^(G_C - G) Vd)
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/delta_portable.h"
#include "kernels/gpu/launch.h"

namespace dw::gpu::portable {
namespace {

constexpr int kDim = 128, kRow = kDim + 4;  // rows of K in shared memory, padded

// What the first kernel leaves of a chunk and head.
template <int kChunk>
struct Triangles {
  float t[kChunk][kChunk];  // T beta
  float p[kChunk][kChunk];  // with 1 / sqrt(k_dim)
  float sums[kChunk];       // G
};

template <int kChunk>
struct TriangleShared {
  float k[kChunk][kRow], q[kChunk][kRow];
  float a[kChunk][kChunk];
  float sums[kChunk], beta[kChunk];
};

template <int kChunk>
__global__ void __launch_bounds__(256)
    delta_triangle_kernel(ops::DeltaMixer op, BatchTable batch, DeltaRows rows, int chunked_from,
                          Triangles<kChunk>* triangles) {
  wait_for_previous();
  allow_next();
  using Shared = TriangleShared<kChunk>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int h = blockIdx.y, thread = threadIdx.x, k_head = h / (op.v_heads / op.k_heads);
  const ChunkPlace place = find_chunk(batch, blockIdx.x, kChunk, chunked_from);
  if (place.span < 0) return;
  Triangles<kChunk>& out = triangles[int64_t(blockIdx.x) * op.v_heads + h];

  for (int i = thread; i < kChunk * kDim; i += 256) {
    const int t = i / kDim, c = i % kDim;
    const float* u = rows.u + (place.first + t) * channels_of(op) + k_head * kDim + c;
    const bool inside = t < place.count;
    shared.q[t][c] = inside ? u[0] : 0.0f;
    shared.k[t][c] = inside ? u[op.k_heads * kDim] : 0.0f;
  }
  if (thread < kWave) {  // the running sum of g
    float g = 0, beta = 0;
    if (thread < place.count) {
      const float2 gates = rows.gates[int64_t(place.first + thread) * op.v_heads + h];
      g = gates.x, beta = gates.y;
    }
    for (int step = 1; step < kChunk; step *= 2) {
      const float other = lane_read(g, thread - step);
      if (thread >= step) g += other;
    }
    if (thread < kChunk) shared.sums[thread] = out.sums[thread] = g, shared.beta[thread] = beta;
  }
  __syncthreads();

  constexpr int kTile = kChunk / 16;
  const int row = thread / 16, column = thread % 16;  // and those 16 further on
  float kk[kTile][kTile] = {}, qk[kTile][kTile] = {};
  for (int c = 0; c < kDim; ++c) {
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const float k = shared.k[row + 16 * i][c], q = shared.q[row + 16 * i][c];
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        kk[i][j] = fmaf(k, shared.k[column + 16 * j][c], kk[i][j]);
        qk[i][j] = fmaf(q, shared.k[column + 16 * j][c], qk[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
#pragma unroll
    for (int j = 0; j < kTile; ++j) {
      const int m = row + 16 * i, n = column + 16 * j;
      const float decay = n <= m ? expf(shared.sums[m] - shared.sums[n]) : 0.0f;
      shared.a[m][n] = n < m ? shared.beta[m] * decay * kk[i][j] : 0.0f;
      out.p[m][n] = decay * qk[i][j] * (1.0f / sqrtf(float(kDim)));
    }
  }
  __syncthreads();
  if (thread >= kChunk) return;
  // Column `thread` of the inverse, by forward substitution.
  float x[kChunk];
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    float sum = i == thread ? 1.0f : 0.0f;
#pragma unroll
    for (int j = 0; j < i; ++j) sum = fmaf(-shared.a[i][j], x[j], sum);
    x[i] = sum;
    out.t[i][thread] = sum * shared.beta[thread];
  }
}

constexpr int kColumns = 32;  // of a block of the second kernel
template <int kChunk>
struct ChunkShared {
  float s[kDim][kColumns];
  float k[kChunk][kRow];
  float x[kChunk][kColumns];   // V - e^G K S
  float vd[kChunk][kColumns];  // Vd
  float t[kChunk][kChunk], p[kChunk][kChunk];
  float sums[kChunk];
};

// sum += f * x[0..3]
DW_DEVICE void add_scaled(float (&sum)[4], float f, const float* x) {
  const float4 v = *reinterpret_cast<const float4*>(x);
  sum[0] = fmaf(f, v.x, sum[0]), sum[1] = fmaf(f, v.y, sum[1]);
  sum[2] = fmaf(f, v.z, sum[2]), sum[3] = fmaf(f, v.w, sum[3]);
}
DW_DEVICE void store4(float* to, const float (&x)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
}

template <int kChunk>
DW_DEVICE void load_chunk(const ops::DeltaMixer& op, const DeltaRows& rows, ChunkShared<kChunk>& shared,
                          const Triangles<kChunk>& triangles, int64_t first, int count, int k_head) {
  constexpr int kThreads = kChunk * 8;
  const float* k = rows.u + (op.k_heads + k_head) * kDim;
  for (int i = threadIdx.x; i < kChunk * kDim; i += kThreads) {
    const int t = i / kDim, c = i % kDim;
    shared.k[t][c] = t < count ? k[(first + t) * channels_of(op) + c] : 0.0f;
  }
  for (int i = threadIdx.x; i < kChunk * kChunk; i += kThreads) {
    shared.t[i / kChunk][i % kChunk] = triangles.t[i / kChunk][i % kChunk];
    shared.p[i / kChunk][i % kChunk] = triangles.p[i / kChunk][i % kChunk];
  }
  if (threadIdx.x < kChunk) shared.sums[threadIdx.x] = triangles.sums[threadIdx.x];
}

// A thread has four columns of one token, then of kDim / kChunk rows of the state.
template <int kChunk>
DW_DEVICE void run_chunk(const ops::DeltaMixer& op, const DeltaRows& rows, ChunkShared<kChunk>& shared,
                         int64_t first, int count, int h, int first_column) {
  const int t = threadIdx.x / 8, c = threadIdx.x % 8 * 4;
  const int64_t row = first + (t < count ? t : 0);  // rows past the end: any, they are not kept
  const float* u = rows.u + row * channels_of(op);
  const float* q = u + h / (op.v_heads / op.k_heads) * kDim;
  const float* v = u + 2 * op.k_heads * kDim + h * kDim + first_column + c;
  const float decay = expf(shared.sums[t]);
  float ks[4] = {}, qs[4] = {};
#pragma unroll 4
  for (int d = 0; d < kDim; d += 4) {
    const float4 k4 = *reinterpret_cast<const float4*>(&shared.k[t][d]);
    const float4 q4 = *reinterpret_cast<const float4*>(q + d);
    const float keys[4] = {k4.x, k4.y, k4.z, k4.w}, queries[4] = {q4.x, q4.y, q4.z, q4.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      add_scaled(ks, keys[i], &shared.s[d + i][c]);
      add_scaled(qs, queries[i], &shared.s[d + i][c]);
    }
  }
  for (int i = 0; i < 4; ++i) ks[i] = t < count ? v[i] - decay * ks[i] : 0.0f;
  store4(&shared.x[t][c], ks);
  __syncthreads();

  // The triangles are zero above the diagonal: whole rows, four at a time.
  float vd[4] = {};
#pragma unroll 2
  for (int j = 0; j < kChunk; j += 4) {
    const float4 f = *reinterpret_cast<const float4*>(&shared.t[t][j]);
    add_scaled(vd, f.x, &shared.x[j][c]), add_scaled(vd, f.y, &shared.x[j + 1][c]);
    add_scaled(vd, f.z, &shared.x[j + 2][c]), add_scaled(vd, f.w, &shared.x[j + 3][c]);
  }
  store4(&shared.vd[t][c], vd);
  __syncthreads();

  const float last = shared.sums[kChunk - 1], to_end = expf(last - shared.sums[t]);
  for (int i = 0; i < 4; ++i) qs[i] *= decay * (1.0f / sqrtf(float(kDim))), vd[i] *= to_end;
  store4(&shared.x[t][c], vd);  // Vd e^(G_C - G)
#pragma unroll 2
  for (int j = 0; j < kChunk; j += 4) {
    const float4 f = *reinterpret_cast<const float4*>(&shared.p[t][j]);
    add_scaled(qs, f.x, &shared.vd[j][c]), add_scaled(qs, f.y, &shared.vd[j + 1][c]);
    add_scaled(qs, f.z, &shared.vd[j + 2][c]), add_scaled(qs, f.w, &shared.vd[j + 3][c]);
  }
  if (t < count) store4(op.out.values + (row * op.v_heads + h) * kDim + first_column + c, qs);
  __syncthreads();
  constexpr int kRows = kDim / kChunk;
  float s[kRows][4] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) add_scaled(s[r], expf(last), &shared.s[t + r * kChunk][c]);
#pragma unroll 4
  for (int j = 0; j < kChunk; ++j) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) add_scaled(s[r], shared.k[j][t + r * kChunk], &shared.x[j][c]);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) store4(&shared.s[t + r * kChunk][c], s[r]);
}

template <int kChunk>
__global__ void __launch_bounds__(kChunk * 8)
    delta_chunk_kernel(ops::DeltaMixer op, BatchTable batch, DeltaRows rows, int chunked_from,
                       const Triangles<kChunk>* triangles) {
  wait_for_previous();
  allow_next();
  using Shared = ChunkShared<kChunk>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  constexpr int kThreads = kChunk * 8;
  const int first_column = blockIdx.x * kColumns, h = blockIdx.y;
  const SpanEntry span = batch.spans[blockIdx.z];
  if (span.row_count < chunked_from) return;
  const int64_t chunk0 = chunks_before(batch, blockIdx.z, kChunk, chunked_from);
  float* state = op.state + (int64_t(span.slot) * op.v_heads + h) * kDim * kDim + first_column;
  for (int i = threadIdx.x; i < kDim * kColumns; i += kThreads)
    shared.s[i / kColumns][i % kColumns] = state[i / kColumns * kDim + i % kColumns];
  for (int done = 0; done < span.row_count; done += kChunk) {
    const int count = span.row_count - done < kChunk ? span.row_count - done : kChunk;
    const int64_t first = span.first_row + done;
    __syncthreads();
    load_chunk(op, rows, shared, triangles[(chunk0 + done / kChunk) * op.v_heads + h], first, count,
               h / (op.v_heads / op.k_heads));
    __syncthreads();
    run_chunk(op, rows, shared, first, count, h, first_column);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kDim * kColumns; i += kThreads)
    state[i / kColumns * kDim + i % kColumns] = shared.s[i / kColumns][i % kColumns];
  if (blockIdx.x == 0) keep_rows_of_head(op, span, h, threadIdx.x, kThreads);
}

template <int kChunk>
void step_chunks_of(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows, int32_t chunked_from,
                    void* scratch) {
  auto* triangles = static_cast<Triangles<kChunk>*>(scratch);
  const DeltaPlan plan = {kChunk, chunked_from, false};
  const uint32_t heads = uint32_t(op.v_heads);
  const int64_t bound = chunk_bound(op.tokens, plan), cut = op.tokens / kChunk + context.batch.span_count;
  const uint32_t chunks = uint32_t(bound < cut ? bound : cut);
  const double rows_heads = double(op.tokens) * op.v_heads;
  allow_shared_bytes(delta_triangle_kernel<kChunk>, sizeof(TriangleShared<kChunk>));
  launch(context, "delta_triangle_kernel",
         {"delta", rows_heads * (8 * kDim + 8 * kChunk), rows_heads * kChunk * (4 * kDim + kChunk)},
         delta_triangle_kernel<kChunk>, dim3(chunks, heads), dim3(256), sizeof(TriangleShared<kChunk>), op,
         context.batch, rows, chunked_from, triangles);
  allow_shared_bytes(delta_chunk_kernel<kChunk>, sizeof(ChunkShared<kChunk>));
  launch(context, "delta_chunk_kernel",
         {"delta", rows_heads * (16 * kDim + 8 * kChunk), rows_heads * kDim * (6 * kDim + 4 * kChunk)},
         delta_chunk_kernel<kChunk>, dim3(kDim / kColumns, heads, uint32_t(context.batch.span_count)),
         dim3(kChunk * 8), sizeof(ChunkShared<kChunk>), op, context.batch, rows, chunked_from,
         static_cast<const Triangles<kChunk>*>(triangles));
}

int32_t portable_chunk(int32_t chunk) {
  return chunk >= 32 ? 32 : 16;
}
uint64_t row_bytes(const ops::DeltaMixer& op) {
  return uint64_t(op.tokens) * (uint64_t(op.channels()) * 4 + uint64_t(op.v_heads) * 8);
}

}  // namespace

void step_chunks(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows, int32_t chunk,
                 int32_t chunked_from, float* triangles) {
  if (chunk == 32)
    step_chunks_of<32>(context, op, rows, chunked_from, triangles);
  else
    step_chunks_of<16>(context, op, rows, chunked_from, triangles);
}

uint64_t triangle_bytes(int32_t chunk) {
  return chunk == 32 ? sizeof(Triangles<32>) : sizeof(Triangles<16>);
}

uint64_t delta_scratch_bytes(const ops::DeltaMixer& op, const DeltaPlan& plan) {
  if (op.k_dim != kDim || op.v_dim != kDim || plan.chunk == 0) return row_bytes(op) + 16;
  const int32_t chunk = portable_chunk(plan.chunk);
  return row_bytes(op) + 16 +
         uint64_t(chunk_bound(op.tokens, {chunk, plan.min_rows, false})) * uint64_t(op.v_heads) *
             triangle_bytes(chunk);
}

void delta_mixer(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan) {
  DeltaRows rows;
  rows.u = reinterpret_cast<float*>(context.scratch);
  rows.gates = reinterpret_cast<float2*>(rows.u + op.tokens * op.channels() + op.tokens * op.channels() % 2);
  float* triangles = reinterpret_cast<float*>(context.scratch + (row_bytes(op) + 15) / 16 * 16);
  const bool fast = op.k_dim == kDim && op.v_dim == kDim;
  const int32_t chunked_from = fast ? plan.chunked_from() : INT_MAX;
  convolve_rows(context, op, rows);
  const bool any_short = context.batch.span_count > 1 || context.batch.longest_span < chunked_from;
  if (any_short) step_tokens(context, op, rows, chunked_from);
  const bool any_chunked = context.batch.longest_span >= chunked_from;
  if (any_chunked) step_chunks(context, op, rows, portable_chunk(plan.chunk), chunked_from, triangles);
  if (any_chunked || !fast) finish_rows(context, op, fast ? chunked_from : 0);
}

}  // namespace dw::gpu::portable
