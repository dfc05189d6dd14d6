// The delta mixer token by token on sm_90: one launch. A cluster of blocks has a K head of a span with its V
// heads: whoever reads a row of the convolution's state is in the cluster, so that its barrier stands between
// the last read and the write. The sums of the norm over a head's columns are sent from block to block.
#include "kernels/gpu/activations.h"
#include "kernels/gpu/delta.h"
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/delta_step.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/delta_cluster.h"
#include "kernels/gpu/sm90/delta_ptx.h"

namespace dw::gpu::hopper {
namespace {

constexpr int kDim = 128;
constexpr int kTaps = 4;                          // hopper::takes() sees to both
constexpr int kDraftPiece = 17, kShortPiece = 8;  // tokens at a time, where spans are longer than one
constexpr int kFewSpans = 2;

// kRatio V heads a K head, each cut into kSplits blocks.
template <int kRatio, int kSplits>
struct Shape {
  static constexpr int kBlocks = kRatio * kSplits;
  static constexpr int kColumns = kDim / kSplits;
  static constexpr int kWaves = kColumns / kTileColumns;
  static constexpr int kThreads = kWaves * kWave;
  static constexpr int kParts = kSplits * kWaves;  // of a head's sum of squares
  // Channels that a block convolves: q, k and its columns of v; a thread has kJobs of them.
  static constexpr int kConvolved = 2 * kDim + kColumns;
  static constexpr int kJobs = (kConvolved + kThreads - 1) / kThreads;
  static_assert(kParts == 16);
};

template <int kPiece, class S>
struct DecodeShared {
  float u[kPiece][S::kConvolved];  // q, k (not normalised), v
  float o[kPiece][S::kColumns];
  float squares[2][kPiece][16];  // of o: [parity of the piece][token][part]; sent by the cluster's blocks
  uint64_t sent[2];
  TokenFactors factors[kPiece];
  Gates gates[kPiece];
};

// Three raw rows of a channel: the window of the convolution.
struct Window {
  float x[kTaps - 1];
};
DW_DEVICE Window load_window(const float* state, int channels) {
  return {{state[0], state[channels], state[2 * channels]}};
}
DW_DEVICE void store_window(const Window& w, float* state, int channels) {
  state[0] = w.x[0], state[channels] = w.x[1], state[2 * channels] = w.x[2];
}
DW_DEVICE float convolve(Window& w, const float4& taps, float x) {
  const float sum = fmaf(taps.w, x, fmaf(taps.z, w.x[2], fmaf(taps.y, w.x[1], taps.x * w.x[0])));
  w.x[0] = w.x[1], w.x[1] = w.x[2], w.x[2] = x;
  return sum / (1.0f + __expf(-sum));
}

// A wave; k, q: a token's rows.
DW_DEVICE TokenFactors token_factors(const float* k, const float* q, const Gates& gates, int lane) {
  float kk = 0, qq = 0, kq = 0;
#pragma unroll
  for (int i = lane; i < kDim; i += kWave) {
    kk = fmaf(k[i], k[i], kk);
    qq = fmaf(q[i], q[i], qq);
    kq = fmaf(k[i], q[i], kq);
  }
  kk = lanes_sum(kk), qq = lanes_sum(qq), kq = lanes_sum(kq);
  TokenFactors f;
  f.decay = expf(gates.g), f.beta = gates.beta;
  f.k = rsqrtf(kk + 1e-6f);
  f.q = rsqrtf((qq + 1e-6f) * float(kDim));
  f.kq = kq * f.k * f.q;
  return f;
}

// The sum over a tile's columns of what delta_step() left in the lanes.
DW_DEVICE float sum_columns(float x) {
  for (int mask = 1; mask < kTileQuads; mask *= 2) x += lane_xor(x, mask);
  x += lane_xor(x, 2 * kTileQuads);
  return x + lane_xor(x, 4 * kTileQuads);
}

// A channel of the convolution that a thread has.
struct Job {
  int channel;
  bool convolves, keeps;  // false: none; another block keeps its newest rows
};
template <class S>
DW_DEVICE Job job_of(const ops::DeltaMixer& op, int index, int k_head, int v_channel, int rank) {
  constexpr int kShare = kDim / S::kBlocks;  // of the q and k channels: each block of the cluster keeps some
  if (index < 2 * kDim) {
    const int first = (index / kDim * op.k_heads + k_head) * kDim;
    return {first + index % kDim, true, index % kDim / kShare == rank};
  }
  const bool convolves = index < S::kConvolved;
  return {v_channel + (convolves ? index - 2 * kDim : 0), convolves, convolves};
}

// What no kernel of this step wrote - weights, states - comes before the kernel in front has ended.
template <int kRatio, int kSplits, int kPiece, int kBlocksMultiprocessor>
__global__ void __cluster_dims__(kRatio* kSplits, 1, 1)
    __launch_bounds__(Shape<kRatio, kSplits>::kThreads, kBlocksMultiprocessor)
        delta_decode_kernel(ops::DeltaMixer op, BatchTable batch, int chunked_from) {
  using S = Shape<kRatio, kSplits>;
  using Shared = DecodeShared<kPiece, S>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = threadIdx.x, wave = thread / kWave, lane = thread % kWave;
  const int rank = int(cluster_rank()), k_head = blockIdx.y;
  const int h = k_head * kRatio + rank / kSplits, split = rank % kSplits;
  const int channels = int(channels_of(op));
  const SpanEntry span = batch.spans[blockIdx.z];  // written before the step's first kernel
  if (span.row_count >= chunked_from) {
    wait_for_previous();  // whoever waits for this grid waits for all in front of it
    return;
  }

  float* state = op.state + (int64_t(span.slot) * op.v_heads + h) * kDim * kDim + split * S::kColumns;
  StateTile tile;
  load_tile(tile, state + wave * kTileColumns, kDim, lane);
  float* conv_state = op.conv_state + int64_t(span.slot) * (kTaps - 1) * channels;
  const int v_channel = 2 * op.k_heads * kDim + h * kDim + split * S::kColumns;
  Job jobs[S::kJobs];
  Window windows[S::kJobs];
  float4 taps[S::kJobs];
#pragma unroll
  for (int j = 0; j < S::kJobs; ++j) {
    jobs[j] = job_of<S>(op, thread + j * S::kThreads, k_head, v_channel, rank);
    windows[j] = load_window(conv_state + jobs[j].channel, channels);
    taps[j] = reinterpret_cast<const float4*>(op.conv_weight)[jobs[j].channel];
  }
  // The column that this thread finishes, of every fourth token.
  const int own_column = thread % S::kColumns, own_token = thread / S::kColumns;
  constexpr int kTokenStep = S::kThreads / S::kColumns, kOwn = (kPiece + kTokenStep - 1) / kTokenStep;
  const int head_column = split * S::kColumns + own_column;
  const float norm = op.norm[head_column], a = op.a[h], dt_bias = op.dt_bias[h];
  if (thread == 0) {
    barrier_init(&shared.sent[0], 1);
    barrier_init(&shared.sent[1], 1);
    barriers_ready();
  }
  wait_for_previous();
  allow_next();

  for (int done = 0, piece = 0; done < span.row_count; done += kPiece, ++piece) {
    const int64_t first = span.first_row + done;
    const int left = span.row_count - done, count = left < kPiece ? left : kPiece, parity = piece & 1;
    constexpr int kBatch = kPiece < 6 ? kPiece : 6;  // rows loaded together
    float raw[kBatch][S::kJobs], z[kOwn];
    const auto load_rows = [&](int t0) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (t0 + i >= count) break;
        const float* row = op.qkv + (first + t0 + i) * int64_t(channels);
#pragma unroll
        for (int j = 0; j < S::kJobs; ++j) raw[i][j] = row[jobs[j].channel];
      }
    };
    load_rows(0);
    const int gate_token = kPiece == 1 ? 0 : thread;
    Gates gates = {};
    if (gate_token < count) {
      const float* pair =
          op.ba + (first + gate_token) * 2 * op.v_heads + k_head * 2 * kRatio + rank / kSplits;
      const float b = pair[0], x = pair[kRatio] + dt_bias;
      gates = {a * (x > 20.0f ? x : log1pf(expf(x))), 1.0f / (1.0f + expf(-b))};
      if (kPiece > 1) shared.gates[gate_token] = gates;
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int t = own_token + i * kTokenStep;
      if (t < count) z[i] = op.z[((first + t) * op.v_heads + h) * kDim + head_column];
    }
    for (int t0 = 0; t0 < count; t0 += kBatch) {
      if (t0 > 0) load_rows(t0);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (t0 + i >= count) break;
#pragma unroll
        for (int j = 0; j < S::kJobs; ++j) {
          const float u = convolve(windows[j], taps[j], raw[i][j]);
          if (jobs[j].convolves) shared.u[t0 + i][thread + j * S::kThreads] = u;
        }
      }
    }
    if (thread == 0) barrier_expect(&shared.sent[parity], uint32_t(count) * S::kParts * sizeof(float));
    __syncthreads();
    // Everybody has read the old rows of the convolution and can be sent to, when all have arrived.
    if (piece == 0) cluster_arrive_relaxed();
    TokenFactors own = {};
    if (kPiece == 1) {
      own = token_factors(shared.u[0] + kDim, shared.u[0], gates, lane);
    } else {
      for (int t = wave; t < count; t += S::kWaves) {
        const TokenFactors f = token_factors(shared.u[t] + kDim, shared.u[t], shared.gates[t], lane);
        if (lane == 0) shared.factors[t] = f;
      }
      __syncthreads();
    }

    const int column = wave * kTileColumns + tile_result_column(lane);
    for (int t = 0; t < count; ++t) {
      const TokenFactors f = kPiece == 1 ? own : shared.factors[t];
      const float o =
          delta_step(tile, shared.u[t] + kDim, shared.u[t], shared.u[t][2 * kDim + column], f, lane);
      if ((tile_group(lane) & 9) == 0) shared.o[t][column] = o;
      const float square = sum_columns(o * o);
      if (piece == 0 && t == 0) cluster_wait();
      if (lane < kSplits)
        send(&shared.squares[parity][t][split * S::kWaves + wave], uint32_t(rank / kSplits * kSplits + lane),
             square, &shared.sent[parity]);
    }
    if (left <= kPiece) {
      store_tile(tile, state + wave * kTileColumns, kDim, lane);
#pragma unroll
      for (int j = 0; j < S::kJobs; ++j) {
        if (jobs[j].keeps) store_window(windows[j], conv_state + jobs[j].channel, channels);
      }
    }
    __syncthreads();
    barrier_wait(&shared.sent[parity], uint32_t(piece / 2 & 1));
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int t = own_token + i * kTokenStep;
      if (t >= count) break;
      float sum = 0;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) sum += shared.squares[parity][t][part];
      const float factor = rsqrtf(sum / float(kDim) + op.eps);
      store_activation(op.out, first + t, h * kDim + head_column,
                       shared.o[t][own_column] * factor * norm * silu(z[i]));
    }
  }
}

template <int kRatio, int kSplits, int kPiece, int kBlocksMultiprocessor>
void launch_decode(Context& context, const ops::DeltaMixer& op, int32_t chunked_from) {
  using S = Shape<kRatio, kSplits>;
  constexpr size_t kShared = sizeof(DecodeShared<kPiece, S>);
  const double cells = double(op.v_heads) * kDim * kDim;
  const double rows = double(op.tokens);
  const double row_bytes = double(op.channels()) * 4 + double(op.out.columns) * 9.25;
  const double spans = context.batch.span_count;
  const auto kernel = delta_decode_kernel<kRatio, kSplits, kPiece, kBlocksMultiprocessor>;
  allow_shared_bytes(kernel, kShared);
  launch(context, "delta_decode_kernel",
         {"delta", spans * (cells * 8 + double(op.channels()) * 24) + rows * row_bytes, rows * cells * 7},
         kernel, dim3(S::kBlocks, uint32_t(op.k_heads), uint32_t(context.batch.span_count)),
         dim3(S::kThreads), kShared, op, context.batch, chunked_from);
}

// One sequence or two: many small blocks, which fit beside those of the kernel in front. More: large blocks,
// fewer of them in a cluster, which has two at least. The sums are the same.
template <int kRatio>
void choose_shape(Context& context, const ops::DeltaMixer& op, int32_t chunked_from) {
  const bool few = context.batch.span_count <= kFewSpans || kRatio == 1;
  if (context.batch.longest_span == 1) {
    if (few) return launch_decode<kRatio, 2, 1, 2>(context, op, chunked_from);
    return launch_decode<kRatio, 1, 1, 1>(context, op, chunked_from);
  }
  if (few) return launch_decode<kRatio, 2, kDraftPiece, 1>(context, op, chunked_from);
  launch_decode<kRatio, 1, kShortPiece, 1>(context, op, chunked_from);
}

}  // namespace

bool takes(const ops::DeltaMixer& op) {
  const int32_t ratio = op.v_heads / op.k_heads;
  return op.k_dim == kDim && op.v_dim == kDim && op.conv_taps == kTaps &&
         (ratio == 1 || ratio == 2 || ratio == 4);
}

void delta_decode(Context& context, const ops::DeltaMixer& op, int32_t chunked_from) {
  switch (op.v_heads / op.k_heads) {
    case 1:
      return choose_shape<1>(context, op, chunked_from);
    case 2:
      return choose_shape<2>(context, op, chunked_from);
    default:
      return choose_shape<4>(context, op, chunked_from);
  }
}

}  // namespace dw::gpu::hopper
