// The delta mixer token by token on sm_90: one launch. A cluster of blocks has a K head of a span with its V
// heads: whoever reads a row of the convolution's state is in the cluster, so that its barrier stands between
// the last read and the write, and the norm over a head's columns is exchanged through shared memory.
#include "kernels/gpu/activations.h"
#include "kernels/gpu/delta.h"
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/delta_step.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/delta_cluster.h"

namespace dw::gpu::hopper {
namespace {

constexpr int kDim = 128;
constexpr int kPiece = 32;  // tokens between two barriers
constexpr int kTaps = 4;

// kRatio V heads a K head, each cut into kSplits blocks.
template <int kRatio, int kSplits>
struct Shape {
  static constexpr int kBlocks = kRatio * kSplits;
  static constexpr int kColumns = kDim / kSplits;
  static constexpr int kWaves = kColumns / kTileColumns;
  static constexpr int kThreads = kWaves * kWave;
  static constexpr int kParts = kSplits * kWaves;  // of a head's sum of squares: 16
};

template <int kColumns, int kWaves>
struct RecurrentShared {
  float k[kPiece][kDim], q[kPiece][kDim];  // not normalised
  float v[kPiece][kColumns];
  float o[kPiece][kColumns];
  float products[kPiece][3][kWaves];  // k . k, q . q, k . q: a wave's channels
  Gates gates[kPiece];
  float squares[2][kPiece][16];  // of o: [parity of the piece][token][part]; written by the cluster's blocks
};

// Three raw rows of a channel: the window of the convolution.
struct Window {
  float x[kTaps - 1];
};
DW_DEVICE Window load_window(const float* state, int64_t channels) {
  return {{state[0], state[channels], state[2 * channels]}};
}
DW_DEVICE void store_window(const Window& w, float* state, int64_t channels) {
  state[0] = w.x[0], state[channels] = w.x[1], state[2 * channels] = w.x[2];
}
DW_DEVICE float convolve(Window& w, const float4& taps, float x) {
  const float sum = fmaf(taps.w, x, fmaf(taps.z, w.x[2], fmaf(taps.y, w.x[1], taps.x * w.x[0])));
  w.x[0] = w.x[1], w.x[1] = w.x[2], w.x[2] = x;
  return sum / (1.0f + expf(-sum));
}

template <int kRatio, int kSplits>
__global__ void __cluster_dims__(kRatio* kSplits, 1, 1) __launch_bounds__(Shape<kRatio, kSplits>::kThreads)
    delta_recurrent_kernel(ops::DeltaMixer op, BatchTable batch, int chunked_from) {
  using S = Shape<kRatio, kSplits>;
  using Shared = RecurrentShared<S::kColumns, S::kWaves>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = threadIdx.x, wave = thread / kWave, lane = thread % kWave;
  const int rank = int(cluster_rank()), k_head = blockIdx.y;
  const int h = k_head * kRatio + rank / kSplits, split = rank % kSplits;
  const int64_t channels = channels_of(op);

  // The channels of this thread: one of q and one of k (threads beyond 128: none), one of v.
  const bool has_key = thread < kDim, has_value = thread < S::kColumns;
  const int64_t q_channel = k_head * kDim + (has_key ? thread : 0);
  const int64_t k_channel = q_channel + op.k_heads * kDim;
  const int64_t v_channel = 2 * op.k_heads * kDim + h * kDim + split * S::kColumns + (has_value ? thread : 0);
  const float4 q_taps = reinterpret_cast<const float4*>(op.conv_weight)[q_channel];
  const float4 k_taps = reinterpret_cast<const float4*>(op.conv_weight)[k_channel];
  const float4 v_taps = reinterpret_cast<const float4*>(op.conv_weight)[v_channel];

  const SpanEntry span = batch.spans[blockIdx.z];  // written before the step's first kernel
  if (span.row_count >= chunked_from) return;
  float* state = op.state + (int64_t(span.slot) * op.v_heads + h) * kDim * kDim + split * S::kColumns;
  // Lines of 128 bytes: the columns of a row, kColumns / 32 of them.
  for (int i = thread; i < kDim * S::kColumns / 32; i += S::kThreads)
    prefetch_line(state + i / (S::kColumns / 32) * kDim + i % (S::kColumns / 32) * 32);
  wait_for_previous();
  allow_next();

  StateTile tile;
  load_tile(tile, state + wave * kTileColumns, kDim, lane);
  float* conv_state = op.conv_state + int64_t(span.slot) * (kTaps - 1) * channels;
  Window q_window = load_window(conv_state + q_channel, channels);
  Window k_window = load_window(conv_state + k_channel, channels);
  Window v_window = load_window(conv_state + v_channel, channels);

  for (int done = 0, parity = 0; done < span.row_count; done += kPiece, parity ^= 1) {
    const int64_t first = span.first_row + done;
    const int count = span.row_count - done < kPiece ? span.row_count - done : kPiece;
    for (int t = thread; t < count; t += S::kThreads)
      shared.gates[t] = delta_gates(op, op.ba + (first + t) * 2 * op.v_heads, h);
#pragma unroll 4
    for (int t = 0; t < count; ++t) {
      const float* row = op.qkv + (first + t) * channels;
      float q = convolve(q_window, q_taps, row[q_channel]);
      float k = convolve(k_window, k_taps, row[k_channel]);
      if (has_value) shared.v[t][thread] = convolve(v_window, v_taps, row[v_channel]);
      if (has_key)
        shared.q[t][thread] = q, shared.k[t][thread] = k;
      else
        q = k = 0;
      const float kk = lanes_sum(k * k), qq = lanes_sum(q * q), kq = lanes_sum(k * q);
      if (lane == 0) {
        shared.products[t][0][wave] = kk;
        shared.products[t][1][wave] = qq;
        shared.products[t][2][wave] = kq;
      }
    }
    const int64_t z_at = (first * op.v_heads + h) * kDim + split * S::kColumns;
    const float first_z = has_value ? op.z[z_at + thread] : 0.0f;
    __syncthreads();

    const int column = wave * kTileColumns + tile_result_column(lane);
    for (int t = 0; t < count; ++t) {
      float products[3] = {};
#pragma unroll
      for (int i = 0; i < 3; ++i)
        for (int w = 0; w < S::kWaves; ++w) products[i] += shared.products[t][i][w];
      TokenFactors f;
      f.decay = expf(shared.gates[t].g), f.beta = shared.gates[t].beta;
      f.k = 1.0f / sqrtf(products[0] + 1e-6f);
      f.q = 1.0f / sqrtf((products[1] + 1e-6f) * float(kDim));
      f.kq = products[2] * f.k * f.q;
      const float o = delta_step(tile, shared.k[t], shared.q[t], shared.v[t][column], f, lane);
      if ((tile_group(lane) & 9) == 0) shared.o[t][column] = o;
      // Over the tile's columns: the quad, then the two bits of the group that choose a column of it.
      float square = o * o;
      for (int mask = 1; mask < kTileQuads; mask *= 2) square += lane_xor(square, mask);
      square += lane_xor(square, 2 * kTileQuads);
      square += lane_xor(square, 4 * kTileQuads);
      if (lane < kSplits)
        store_remote(&shared.squares[parity][t][split * S::kWaves + wave], rank / kSplits * kSplits + lane,
                     square);
    }
    const bool last = done + kPiece >= span.row_count;
    if (last) store_tile(tile, state + wave * kTileColumns, kDim, lane);
    cluster_arrive();
    cluster_wait();
    if (last) {
      constexpr int kShare = kDim / S::kBlocks;  // of the q and k channels: each block keeps some
      if (has_key && thread / kShare == rank) {
        store_window(q_window, conv_state + q_channel, channels);
        store_window(k_window, conv_state + k_channel, channels);
      }
      if (has_value) store_window(v_window, conv_state + v_channel, channels);
    }
    for (int i = thread; i < count * S::kColumns; i += S::kThreads) {
      const int t = i / S::kColumns, c = i % S::kColumns;
      float sum = 0;
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) sum += shared.squares[parity][t][part];
      const float z = i < S::kColumns ? first_z : op.z[z_at + int64_t(t) * op.v_heads * kDim + c];
      const float factor = 1.0f / sqrtf(sum / float(kDim) + op.eps);
      store_activation(op.out, first + t, h * kDim + split * S::kColumns + c,
                       shared.o[t][c] * factor * op.norm[split * S::kColumns + c] * (z / (1.0f + expf(-z))));
    }
  }
}

template <int kRatio, int kSplits>
void launch_recurrent(Context& context, const ops::DeltaMixer& op, int32_t chunked_from) {
  using S = Shape<kRatio, kSplits>;
  constexpr size_t kShared = sizeof(RecurrentShared<S::kColumns, S::kWaves>);
  const double cells = double(op.v_heads) * kDim * kDim;
  const double rows = double(op.tokens);
  const double row_bytes = double(op.channels()) * 4 + double(op.out.columns) * 9.25;
  const double spans = context.batch.span_count;
  allow_shared_bytes(delta_recurrent_kernel<kRatio, kSplits>, kShared);
  launch(context, "delta_recurrent_kernel",
         {"delta", spans * (cells * 8 + double(op.channels()) * 24) + rows * row_bytes, rows * cells * 7},
         delta_recurrent_kernel<kRatio, kSplits>,
         dim3(S::kBlocks, uint32_t(op.k_heads), uint32_t(context.batch.span_count)), dim3(S::kThreads),
         kShared, op, context.batch, chunked_from);
}

}  // namespace

bool takes(const ops::DeltaMixer& op) {
  const int32_t ratio = op.v_heads / op.k_heads;
  return op.k_dim == kDim && op.v_dim == kDim && op.conv_taps == kTaps &&
         (ratio == 1 || ratio == 2 || ratio == 4);
}

void delta_recurrent(Context& context, const ops::DeltaMixer& op, int32_t chunked_from) {
  switch (op.v_heads / op.k_heads) {
    case 1:
      return launch_recurrent<1, 4>(context, op, chunked_from);
    case 2:
      return launch_recurrent<2, 4>(context, op, chunked_from);
    default:
      return launch_recurrent<4, 2>(context, op, chunked_from);
  }
}

}  // namespace dw::gpu::hopper
