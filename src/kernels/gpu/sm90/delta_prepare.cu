// First kernel of the chunked delta mixer on sm_90: everything of a chunk that does not depend on the state.
// A block has a chunk of a K head: convolution, SiLU, norms and gates in fp32; K K^T and Q K^T on tensor
// cores; the inverse in fp32, by 16 x 16 blocks which are then merged. Half precision (11 bits) and not bf16:
// q and k are unit vectors, the entries of the inverse are at most 1, and |v| stays far below 65504.
#include "kernels/gpu/delta_device.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/delta_chunk.h"
#include "kernels/gpu/sm90/delta_ptx.h"

namespace dw::gpu::hopper {
namespace {

constexpr int kThreads = 256, kWaves = kThreads / 32, kTaps = 4;
constexpr float kQueryScale = 0.08838834764831845f;  // 1 / sqrt(128)

template <int kChunk, int kRatio>
struct PrepareShared {
  static constexpr int kStride = kChunk + 4;
  uint4 k[kChunk * kHeadDim / 8], q[kChunk * kHeadDim / 8];
  float kk[kChunk][kStride], qk[kChunk][kStride];
  float x[kRatio][kChunk][kStride];                  // the triangle, then its inverse
  float sums[kRatio][kChunk], beta[kRatio][kChunk];  // G
};

DW_DEVICE float4 load4(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}

// Raw row t of a span (negative: of the convolution's state), at a channel.
DW_DEVICE const float* raw_row(const ops::DeltaMixer& op, const SpanEntry& span, int t, int64_t channel) {
  const int64_t channels = channels_of(op);
  return (t < 0 ? op.conv_state + (int64_t(span.slot) * (kTaps - 1) + t + kTaps - 1) * channels
                : op.qkv + int64_t(span.first_row + t) * channels) +
         channel;
}

DW_DEVICE float convolve(const float4& taps, float a, float b, float c, float d) {
  return approximate_silu(fmaf(taps.w, d, fmaf(taps.z, c, fmaf(taps.y, b, taps.x * a))));
}

// Rows [begin, begin + kRows) of a chunk, 128 channels from `channel`, four a lane: convolution, SiLU and,
// for q and k, the l2 norm; store(row, four values). Rows from `count` on are zero.
template <int kRows, class Store>
DW_DEVICE void convolve_rows(const ops::DeltaMixer& op, const SpanEntry& span, int64_t channel,
                             int chunk_start, int begin, int count, bool normalise, const Store& store) {
  const int lane = threadIdx.x % 32;
  channel += 4 * lane;
  float4 taps[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) taps[i] = load4(op.conv_weight + (channel + i) * kTaps);
  float4 a = {}, b = {}, c = {};
  if (begin < count) {
    a = load4(raw_row(op, span, chunk_start + begin - 3, channel));
    b = load4(raw_row(op, span, chunk_start + begin - 2, channel));
    c = load4(raw_row(op, span, chunk_start + begin - 1, channel));
  }
  constexpr int kBatch = kRows < 8 ? kRows : 8;  // loads in flight
  for (int r0 = begin; r0 < begin + kRows; r0 += kBatch) {
    float4 raw[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      raw[i] = make_float4(0, 0, 0, 0);
      if (r0 + i < count) raw[i] = load4(raw_row(op, span, chunk_start + r0 + i, channel));
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float4 d = raw[i];
      float4 u = make_float4(convolve(taps[0], a.x, b.x, c.x, d.x), convolve(taps[1], a.y, b.y, c.y, d.y),
                             convolve(taps[2], a.z, b.z, c.z, d.z), convolve(taps[3], a.w, b.w, c.w, d.w));
      a = b, b = c, c = d;
      float factor = r0 + i < count ? 1.0f : 0.0f;
      if (normalise) factor *= rsqrtf(lanes_sum<32>(u.x * u.x + u.y * u.y + u.z * u.z + u.w * u.w) + 1e-6f);
      store(r0 + i,
            make_uint2(pack_half2(u.x * factor, u.y * factor), pack_half2(u.z * factor, u.w * factor)));
    }
  }
}

// g and beta of a V head's tokens, the running sum of g, and the factors that go out; one wave.
template <int kChunk>
DW_DEVICE void sum_gates(const ops::DeltaMixer& op, const ChunkPlace& place, int h, float* sums, float* betas,
                         HeadTiles<kChunk>& out) {
  const int lane = threadIdx.x % 32;
  float total = 0;
#pragma unroll
  for (int base = 0; base < kChunk; base += 32) {
    const int t = base + lane;
    Gates gates = {0, 0};
    if (t < place.count) gates = delta_gates(op, op.ba + int64_t(place.first + t) * 2 * op.v_heads, h);
    float sum = gates.g;
    for (int step = 1; step < 32; step *= 2) {
      const float other = lane_read(sum, lane - step);
      if (lane >= step) sum += other;
    }
    sum += total;
    total = lane_read(sum, 31);
    if (t < kChunk) {
      sums[t] = sum;
      betas[t] = gates.beta;
      out.from_start[t] = expf(sum);
    }
  }
  __syncwarp();
  for (int t = lane; t < kChunk; t += 32) out.to_end[t] = expf(total - sums[t]);
}

// K K^T and Q K^T, 16 x 16 a task; only blocks on or below the diagonal.
template <int kChunk, int kRatio>
DW_DEVICE void multiply_keys(PrepareShared<kChunk, kRatio>& shared) {
  constexpr int kBlocks = kChunk / 16;
  const int wave = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int task = wave; task < 2 * kBlocks * kBlocks; task += kWaves) {
    const int m = task % kBlocks, n = task / (2 * kBlocks);
    const bool query = task / kBlocks % 2;
    if (n > m) continue;
    const uint4* rows = query ? shared.q : shared.k;
    float c[2][4] = {};
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      uint32_t a[4], b[4];
      load_matrices(a, rows + swizzled<16>(16 * m + lane % 16, 2 * step + lane / 16));
      load_matrices(b, shared.k + swizzled<16>(16 * n + lane / 16 * 8 + lane % 8, 2 * step + (lane / 8 & 1)));
      multiply_16x8x16(c[0], a, b[0], b[1]);
      multiply_16x8x16(c[1], a, b[2], b[3]);
    }
    auto& out = query ? shared.qk : shared.kk;
    const int row = 16 * m + lane / 4, column = 16 * n + 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      *reinterpret_cast<float2*>(&out[row][column + 8 * i]) = make_float2(c[i][0], c[i][1]);
      *reinterpret_cast<float2*>(&out[row + 8][column + 8 * i]) = make_float2(c[i][2], c[i][3]);
    }
  }
}

// The inverse of the 16 x 16 unit triangles on the diagonal, in place; 16 lanes a block, a column each.
template <int kStride>
DW_DEVICE void invert_block(float* block, bool active) {
  const int column = threadIdx.x % 16;
  float x[16];
  if (active) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      float sum = i == column ? 1.0f : 0.0f;
#pragma unroll
      for (int j = 0; j < i; ++j) sum = fmaf(-block[i * kStride + j], x[j], sum);
      x[i] = sum;
    }
  }
  __syncwarp();
  if (active) {
#pragma unroll
    for (int i = 0; i < 16; ++i) block[i * kStride + column] = x[i];
  }
}

// to = sign * a b, kSize x kSize; this thread: column `column` of rows row, row + kStep, ...
template <int kSize, int kStep, int kStride>
DW_DEVICE void multiply_small(float* to, const float* a, const float* b, float sign, int row, int column) {
  float sums[kSize / kStep] = {};
#pragma unroll 4
  for (int k = 0; k < kSize; k += 4) {
    float x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = b[(k + i) * kStride + column];
#pragma unroll
    for (int r = 0; r < kSize / kStep; ++r) {
      const float4 y = load4(a + (row + r * kStep) * kStride + k);
      sums[r] = fmaf(y.x, x[0], fmaf(y.y, x[1], fmaf(y.z, x[2], fmaf(y.w, x[3], sums[r]))));
    }
  }
#pragma unroll
  for (int r = 0; r < kSize / kStep; ++r) to[(row + r * kStep) * kStride + column] = sign * sums[r];
}

// Inverses of kSize blocks on the diagonal become those of twice the size: X21 = -X22 (L21 X11); the product
// in brackets rests in the unused corner above the diagonal.
template <int kSize, int kChunk, int kRatio>
DW_DEVICE void merge_blocks(float (&x)[kRatio][kChunk][kChunk + 4]) {
  constexpr int kStride = kChunk + 4, kPairs = kRatio * kChunk / (2 * kSize);
  constexpr int kThreadsPair = kThreads / kPairs;
  static_assert(kThreadsPair >= kSize, "a pair needs a thread a column");
  constexpr int kStep = kThreadsPair / kSize < kSize ? kThreadsPair / kSize : kSize;
  const int pair = threadIdx.x / kThreadsPair, id = threadIdx.x % kThreadsPair;
  const int row = id / kSize, column = id % kSize;
  float* matrix = &x[pair / (kChunk / (2 * kSize))][0][0];
  const int start = pair % (kChunk / (2 * kSize)) * 2 * kSize;
  float* x11 = matrix + start * kStride + start;
  float* corner = x11 + kSize;
  float* x21 = x11 + kSize * kStride;
  if (row < kStep) multiply_small<kSize, kStep, kStride>(corner, x21, x11, 1.0f, row, column);
  __syncthreads();
  if (row < kStep) multiply_small<kSize, kStep, kStride>(x21, x21 + kSize, corner, -1.0f, row, column);
  __syncthreads();
  if (2 * kSize == kChunk) return;
  // The next merge reads whole blocks.
  if (row < kStep) {
    for (int r = row; r < kSize; r += kStep) corner[r * kStride + column] = 0;
  }
  __syncthreads();
}

template <int kChunk, int kRatio>
__global__ void __launch_bounds__(kThreads, 2)
    delta_prepare_kernel(ops::DeltaMixer op, BatchTable batch, int chunked_from,
                         ChunkTiles<kChunk, kRatio>* tiles) {
  using Shared = PrepareShared<kChunk, kRatio>;
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const int thread = threadIdx.x, wave = thread / 32, lane = thread % 32, k_head = blockIdx.y;
  wait_for_previous();
  allow_next();
  const ChunkPlace place = find_chunk(batch, blockIdx.x, kChunk, chunked_from);
  if (place.span < 0) return;
  const SpanEntry span = batch.spans[place.span];
  ChunkTiles<kChunk, kRatio>& out = tiles[int64_t(blockIdx.x) * op.k_heads + k_head];

  if (wave < kRatio)
    sum_gates(op, place, k_head * kRatio + wave, shared.sums[wave], shared.beta[wave], out.heads[wave]);
  const int chunk_start = place.first - span.first_row;
  for (int unit = wave; unit < 8 + 4 * kRatio; unit += kWaves) {
    const int part = unit % 4, begin = part * (kChunk / 4);
    if (unit < 8) {
      uint4* tile = unit < 4 ? shared.q : shared.k;
      const int64_t channel = (int64_t(unit / 4) * op.k_heads + k_head) * kHeadDim;
      convolve_rows<kChunk / 4>(op, span, channel, chunk_start, begin, place.count, true,
                                [&](int row, uint2 x) {
                                  auto* piece = reinterpret_cast<uint2*>(tile + swizzled<16>(row, lane / 2));
                                  piece[lane % 2] = x;
                                });
    } else {
      const int head = (unit - 8) / 4;
      const int64_t channel = (2 * int64_t(op.k_heads) + k_head * kRatio + head) * kHeadDim;
      uint4* tile = out.heads[head].v[lane / 8];
      convolve_rows<kChunk / 4>(
          op, span, channel, chunk_start, begin, place.count, false, [&](int row, uint2 x) {
            auto* piece = reinterpret_cast<uint2*>(tile + swizzled<4>(row, lane % 8 / 2));
            piece[lane % 2] = x;
          });
    }
  }
  __syncthreads();

  for (int i = thread; i < kChunk * kHeadDim / 8; i += kThreads)
    out.k[i] = shared.k[i], out.q[i] = shared.q[i];
  multiply_keys<kChunk, kRatio>(shared);
  __syncthreads();

  for (int i = thread; i < kRatio * kChunk * kChunk; i += kThreads) {
    const int head = i / (kChunk * kChunk), m = i / kChunk % kChunk, n = i % kChunk;
    if (n >= m) continue;
    const float decay = __expf(shared.sums[head][m] - shared.sums[head][n]);
    shared.x[head][m][n] = shared.beta[head][m] * decay * shared.kk[m][n];
  }
  __syncthreads();
  constexpr int kStride = Shared::kStride, kBlocks = kChunk / 16;
  static_assert(kRatio * kBlocks <= kThreads / 16);
  const int block = thread / 16;
  const bool active = block < kRatio * kBlocks;
  invert_block<kStride>(
      active ? &shared.x[block / kBlocks][block % kBlocks * 16][block % kBlocks * 16] : nullptr, active);
  __syncthreads();
  if constexpr (kChunk >= 32) merge_blocks<16, kChunk, kRatio>(shared.x);
  if constexpr (kChunk >= 64) merge_blocks<32, kChunk, kRatio>(shared.x);

  for (int i = thread; i < kRatio * kChunk * kChunk / 8; i += kThreads) {
    const int head = i / (kChunk * kChunk / 8), m = i / (kChunk / 8) % kChunk, piece = i % (kChunk / 8);
    uint32_t t[4] = {}, p[4] = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int n = 8 * piece + 2 * j;
      float values[4] = {};
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        if (n + side > m) continue;
        const float decay = __expf(shared.sums[head][m] - shared.sums[head][n + side]);
        values[side] = shared.x[head][m][n + side] * shared.beta[head][n + side];
        values[2 + side] = shared.qk[m][n + side] * decay * kQueryScale;
      }
      t[j] = pack_half2(values[0], values[1]);
      p[j] = pack_half2(values[2], values[3]);
    }
    const int at = swizzled<kChunk / 8>(m, piece);
    out.heads[head].t[at] = make_uint4(t[0], t[1], t[2], t[3]);
    out.heads[head].p[at] = make_uint4(p[0], p[1], p[2], p[3]);
  }
}

}  // namespace

template <int kChunk, int kRatio>
void prepare_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from, uint32_t chunks,
                    ChunkTiles<kChunk, kRatio>* tiles) {
  constexpr size_t kShared = sizeof(PrepareShared<kChunk, kRatio>);
  const double elements = double(op.tokens) * double(op.channels());
  const double tile_bytes = double(op.tokens) / kChunk * op.k_heads * sizeof(ChunkTiles<kChunk, kRatio>);
  allow_shared_bytes(delta_prepare_kernel<kChunk, kRatio>, kShared);
  launch(context, "delta_prepare_kernel",
         {"delta", elements * 4 + tile_bytes, double(op.tokens) * op.k_heads * 4 * kChunk * kHeadDim},
         delta_prepare_kernel<kChunk, kRatio>, dim3(chunks, uint32_t(op.k_heads)), dim3(kThreads), kShared,
         op, context.batch, chunked_from, tiles);
}

#define DW_INSTANTIATE(chunk, ratio)                                                              \
  template void prepare_chunks<chunk, ratio>(Context&, const ops::DeltaMixer&, int32_t, uint32_t, \
                                             ChunkTiles<chunk, ratio>*);
DW_INSTANTIATE(16, 1)
DW_INSTANTIATE(16, 2)
DW_INSTANTIATE(16, 4)
DW_INSTANTIATE(32, 1)
DW_INSTANTIATE(32, 2)
DW_INSTANTIATE(32, 4)
#undef DW_INSTANTIATE

}  // namespace dw::gpu::hopper
