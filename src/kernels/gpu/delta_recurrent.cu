// The portable delta mixer, token by token: convolution and gates of all rows, then one block a head and
// span. Head sizes other than 128 keep the state in global memory and take one launch more.
#include "kernels/gpu/activations.h"
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/delta_portable.h"
#include "kernels/gpu/delta_step.h"
#include "kernels/gpu/launch.h"

namespace dw::gpu::portable {
namespace {

constexpr int kConvThreads = 256, kConvWaves = kConvThreads / kWave;

// silu(causal convolution) of one channel of a row; t: the row within its span.
DW_DEVICE float convolve(const ops::DeltaMixer& op, const SpanEntry& span, int t, int64_t channel) {
  const int64_t channels = channels_of(op);
  const int kept = op.conv_taps - 1;
  const float* state = op.conv_state + int64_t(span.slot) * kept * channels + channel;
  const float* rows = op.qkv + int64_t(span.first_row) * channels + channel;
  const float* weight = op.conv_weight + channel * op.conv_taps;
  float sum = 0;
  for (int j = 0; j <= kept; ++j) {
    const int from = t - kept + j;
    const float x = from < 0 ? state[(from + kept) * channels] : rows[int64_t(from) * channels];
    sum = fmaf(weight[j], x, sum);
  }
  return sum / (1.0f + expf(-sum));
}

// A wave has one head of q, k or v of one row.
__global__ void __launch_bounds__(kConvThreads)
    delta_conv_kernel(ops::DeltaMixer op, BatchTable batch, DeltaRows rows) {
  wait_for_previous();
  allow_next();
  const int lane = threadIdx.x % kWave;
  const int unit = blockIdx.y * kConvWaves + threadIdx.x / kWave;
  const int64_t row = blockIdx.x;
  if (unit >= 2 * op.k_heads + op.v_heads) return;
  const SpanEntry span = batch.spans[batch.row_span[row]];
  const bool is_value = unit >= 2 * op.k_heads;
  const int value_head = unit - 2 * op.k_heads, dim = is_value ? op.v_dim : op.k_dim;
  const int64_t first = is_value ? 2 * int64_t(op.k_heads) * op.k_dim + int64_t(value_head) * op.v_dim
                                 : int64_t(unit) * op.k_dim;
  float* u = rows.u + row * channels_of(op) + first;
  float sum = 0;
  for (int i = lane; i < dim; i += kWave) {
    const float x = convolve(op, span, int(row) - span.first_row, first + i);
    u[i] = x;
    sum = fmaf(x, x, sum);
  }
  if (is_value) {
    if (lane != 0) return;
    const Gates gates = delta_gates(op, op.ba + row * 2 * op.v_heads, value_head);
    rows.gates[row * op.v_heads + value_head] = make_float2(gates.g, gates.beta);
    return;
  }
  const float factor = 1.0f / sqrtf(lanes_sum(sum) + 1e-6f);
  for (int i = lane; i < dim; i += kWave) u[i] *= factor;
}

constexpr int kHeadThreads = 512, kHeadWaves = kHeadThreads / kWave, kPiece = 16;
static_assert(kHeadWaves * kTileColumns == 128);

// Tokens staged in shared memory.
struct HeadShared {
  float qk[kPiece][256];
  float v[kPiece][128];
  float o[kPiece][128];
  TokenFactors factors[kPiece];
};

DW_DEVICE void stage_tokens(const ops::DeltaMixer& op, const DeltaRows& rows, HeadShared& shared,
                            int64_t first, int count, int h) {
  const int wave = threadIdx.x / kWave, lane = threadIdx.x % kWave;
  const int k_head = h / (op.v_heads / op.k_heads);
  for (int t = wave; t < count; t += kHeadWaves) {
    const float* u = rows.u + (first + t) * channels_of(op);
    float kq = 0;
    for (int i = lane; i < 128; i += kWave) {
      const float q = u[k_head * 128 + i], k = u[(op.k_heads + k_head) * 128 + i];
      shared.qk[t][i] = q;
      shared.qk[t][128 + i] = k;
      shared.v[t][i] = u[(2 * op.k_heads + h) * 128 + i];
      kq = fmaf(k, q, kq);
    }
    kq = lanes_sum(kq);
    if (lane == 0) {
      const float2 gates = rows.gates[(first + t) * op.v_heads + h];
      const float scale = 1.0f / sqrtf(128.0f);
      shared.factors[t] = {expf(gates.x), gates.y, 1.0f, scale, kq * scale};
    }
  }
}

// The norm over a head's 128 columns, the gate, the quantised output; a wave a token.
DW_DEVICE void finish_tokens(const ops::DeltaMixer& op, const HeadShared& shared, int64_t first, int count,
                             int h) {
  const int wave = threadIdx.x / kWave, lane = threadIdx.x % kWave;
  for (int t = wave; t < count; t += kHeadWaves) {
    float sum = 0;
    for (int i = lane; i < 128; i += kWave) sum = fmaf(shared.o[t][i], shared.o[t][i], sum);
    const float factor = 1.0f / sqrtf(lanes_sum(sum) / 128.0f + op.eps);
    for (int i = lane; i < 128; i += kWave) {
      const float z = op.z[((first + t) * op.v_heads + h) * 128 + i];
      store_activation(op.out, first + t, h * 128 + i,
                       shared.o[t][i] * factor * op.norm[i] * (z / (1.0f + expf(-z))));
    }
  }
}

__global__ void __launch_bounds__(kHeadThreads)
    delta_head_kernel(ops::DeltaMixer op, BatchTable batch, DeltaRows rows, int chunked_from) {
  wait_for_previous();
  allow_next();
  HeadShared& shared = *reinterpret_cast<HeadShared*>(shared_memory());
  const int h = blockIdx.x, wave = threadIdx.x / kWave, lane = threadIdx.x % kWave;
  const SpanEntry span = batch.spans[blockIdx.y];
  if (span.row_count >= chunked_from) return;
  float* state = op.state + (int64_t(span.slot) * op.v_heads + h) * 128 * 128 + wave * kTileColumns;
  StateTile tile;
  load_tile(tile, state, 128, lane);
  for (int done = 0; done < span.row_count; done += kPiece) {
    const int count = span.row_count - done < kPiece ? span.row_count - done : kPiece;
    stage_tokens(op, rows, shared, span.first_row + done, count, h);
    __syncthreads();
    const int column = wave * kTileColumns + tile_result_column(lane);
    for (int t = 0; t < count; ++t) {
      const float o =
          delta_step(tile, shared.qk[t] + 128, shared.qk[t], shared.v[t][column], shared.factors[t], lane);
      if ((tile_group(lane) & 9) == 0) shared.o[t][column] = o;
    }
    __syncthreads();
    finish_tokens(op, shared, span.first_row + done, count, h);
    __syncthreads();
  }
  store_tile(tile, state, 128, lane);
  keep_rows_of_head(op, span, h, threadIdx.x, kHeadThreads);
}

constexpr int kAnyThreads = 128;

// Any head size; the state stays in global memory; a thread has columns of its own.
__global__ void __launch_bounds__(kAnyThreads)
    delta_any_kernel(ops::DeltaMixer op, BatchTable batch, DeltaRows rows, int chunked_from) {
  wait_for_previous();
  allow_next();
  const int h = blockIdx.x;
  const SpanEntry span = batch.spans[blockIdx.y];
  if (span.row_count >= chunked_from) return;
  float* state = op.state + (int64_t(span.slot) * op.v_heads + h) * op.k_dim * op.v_dim;
  const int k_head = h / (op.v_heads / op.k_heads);
  const float scale = 1.0f / sqrtf(float(op.k_dim));
  for (int t = 0; t < span.row_count; ++t) {
    const int64_t row = span.first_row + t;
    const float* q = rows.u + row * channels_of(op) + k_head * op.k_dim;
    const float* k = q + op.k_heads * op.k_dim;
    const float* v = rows.u + row * channels_of(op) + 2 * op.k_heads * op.k_dim + h * op.v_dim;
    const float2 gates = rows.gates[row * op.v_heads + h];
    const float decay = expf(gates.x);
    for (int c = threadIdx.x; c < op.v_dim; c += kAnyThreads) {
      float recalled = 0;
      for (int i = 0; i < op.k_dim; ++i) recalled = fmaf(state[i * op.v_dim + c], k[i], recalled);
      const float d = gates.y * (v[c] - decay * recalled);
      float sum = 0;
      for (int i = 0; i < op.k_dim; ++i) {
        const float s = fmaf(k[i], d, decay * state[i * op.v_dim + c]);
        state[i * op.v_dim + c] = s;
        sum = fmaf(s, q[i], sum);
      }
      op.out.values[(row * op.v_heads + h) * op.v_dim + c] = sum * scale;
    }
  }
  keep_rows_of_head(op, span, h, threadIdx.x, kAnyThreads);
}

constexpr int kFinishThreads = 256;

// out = rmsnorm(out) * norm * silu(z), in place, quantised; a row a block. Only rows whose o lies in
// out.values unfinished: those of spans of at least `from` rows.
__global__ void __launch_bounds__(kFinishThreads)
    delta_finish_kernel(ops::DeltaMixer op, BatchTable batch, int from) {
  wait_for_previous();
  allow_next();
  float* factors = reinterpret_cast<float*>(shared_memory());  // [v_heads]
  const int64_t row = blockIdx.x;
  if (batch.spans[batch.row_span[row]].row_count < from) return;
  const int wave = threadIdx.x / kWave, lane = threadIdx.x % kWave, columns = int(op.out.columns);
  float* values = op.out.values + row * columns;
  for (int h = wave; h < op.v_heads; h += kFinishThreads / kWave) {
    float sum = 0;
    for (int i = lane; i < op.v_dim; i += kWave)
      sum = fmaf(values[h * op.v_dim + i], values[h * op.v_dim + i], sum);
    sum = lanes_sum(sum);
    if (lane == 0) factors[h] = 1.0f / sqrtf(sum / float(op.v_dim) + op.eps);
  }
  __syncthreads();
  const int rounded = (columns + kFinishThreads - 1) / kFinishThreads * kFinishThreads;
  for (int c = threadIdx.x; c < rounded; c += kFinishThreads) {
    const bool inside = c < columns;
    float x = 0;
    if (inside) {
      const float z = op.z[row * columns + c];
      x = values[c] * factors[c / op.v_dim] * op.norm[c % op.v_dim] * (z / (1.0f + expf(-z)));
    }
    if (op.out.quants == nullptr) {
      if (inside) values[c] = x;
    } else if (c / 32 * 32 < columns) {
      store_activation(op.out, row, c, x);
    }
  }
}

}  // namespace

void convolve_rows(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows) {
  const double elements = double(op.tokens) * double(op.channels());
  const uint32_t units = uint32_t(2 * op.k_heads + op.v_heads);
  launch(context, "delta_conv_kernel", {"delta", elements * 8, elements * (2 * op.conv_taps + 8)},
         delta_conv_kernel, dim3(uint32_t(op.tokens), ceil_div(units, kConvWaves)), dim3(kConvThreads), 0, op,
         context.batch, rows);
}

void step_tokens(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows, int32_t chunked_from) {
  const dim3 grid(uint32_t(op.v_heads), uint32_t(context.batch.span_count));
  const double cells = double(op.v_heads) * op.k_dim * op.v_dim;
  const Work work = {"delta", cells * 8 * context.batch.span_count, cells * 7 * double(op.tokens)};
  if (op.k_dim == 128 && op.v_dim == 128) {
    launch(context, "delta_head_kernel", work, delta_head_kernel, grid, dim3(kHeadThreads),
           sizeof(HeadShared), op, context.batch, rows, chunked_from);
  } else {
    launch(context, "delta_any_kernel", work, delta_any_kernel, grid, dim3(kAnyThreads), 0, op, context.batch,
           rows, chunked_from);
  }
}

void finish_rows(Context& context, const ops::DeltaMixer& op, int32_t from) {
  const double elements = double(op.tokens) * double(op.out.columns);
  launch(context, "delta_finish_kernel", {"delta", elements * 13.25, elements * 12}, delta_finish_kernel,
         dim3(uint32_t(op.tokens)), dim3(kFinishThreads), size_t(op.v_heads) * sizeof(float), op,
         context.batch, from);
}

}  // namespace dw::gpu::portable
