// The k likeliest tokens of a row of logits, and what a softmax over the whole row needs. Two kernels: the
// largest logit of every group of tokens; then one block a row, which knows that the k-th largest of the
// group maxima bounds the k-th largest logit from below, collects the few tokens that reach it, and sorts
// them. Where too many do (rows in sorted order, rows of equal logits), it finds the k-th token digit by
// digit.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kMaxTop = 256;
constexpr int kMaxGroups = 2048;
constexpr int kGroupUnit = 128;  // tokens
constexpr int kScanThreads = 256;
constexpr int kScanGroups = 2;  // of a wave
constexpr int kSelectThreads = 1024;
constexpr int kMaxCandidates = 4096;

using u64 = unsigned long long;

// Larger logits are larger numbers.
DW_DEVICE uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);  // -0 counts as 0
  return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}
DW_DEVICE float unordered(uint32_t x) {
  return __uint_as_float(x ^ ((x >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}
// Larger logits, then lower ids, are larger numbers.
DW_DEVICE u64 key_of(float logit, int id) {
  return u64(ordered(logit)) << 32 | uint32_t(~id);
}

struct SampleArgs {
  const float* logits;  // [rows, vocabulary]
  int vocabulary, k;
  int group;        // tokens of a group, a multiple of kGroupUnit
  int groups;       // of a row
  int blocks;       // of the scan over a row
  float* maxima;    // [rows, groups]
  float2* partial;  // [rows, blocks]: largest logit, sum of e^(logit - largest)
  int32_t* ids;
  float* values;
  float* max_and_sum;
};

// Sums with their maxima: e^(a.x) a.y + e^(b.x) b.y.
DW_DEVICE float2 join(float2 a, float2 b) {
  const float largest = fmaxf(a.x, b.x);
  if (largest == -INFINITY) return {largest, 0};
  return {largest, a.y * expf(a.x - largest) + b.y * expf(b.x - largest)};
}
DW_DEVICE float2 lanes_join(float2 x) {
#pragma unroll
  for (int mask = 1; mask < kWave; mask *= 2) {
    const float2 other = {lane_xor(x.x, mask), lane_xor(x.y, mask)};
    x = join(x, other);
  }
  return x;
}

__global__ void __launch_bounds__(kScanThreads) sample_scan_kernel(SampleArgs args) {
  constexpr int kWaves = kScanThreads / kWave, kLoads = kGroupUnit / kWave;
  __shared__ float2 shared[kWaves];
  wait_for_previous();
  allow_next();
  const int wave = threadIdx.x / kWave, lane = threadIdx.x % kWave;
  const float* logits = args.logits + int64_t(blockIdx.y) * args.vocabulary;
  float2 total = {-INFINITY, 0};
#pragma unroll
  for (int i = 0; i < kScanGroups; ++i) {
    const int group = (int(blockIdx.x) * kScanGroups + i) * kWaves + wave;
    if (group >= args.groups) break;
    const int begin = group * args.group;
    const int end = begin + args.group < args.vocabulary ? begin + args.group : args.vocabulary;
    float2 sum = {-INFINITY, 0};
    for (int base = begin; base < end; base += kGroupUnit) {
      float x[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int id = base + j * kWave + lane;
        x[j] = id < end ? logits[id] : -INFINITY;
      }
      float2 here = {x[0], 0};
#pragma unroll
      for (int j = 1; j < kLoads; ++j) here.x = fmaxf(here.x, x[j]);
#pragma unroll
      for (int j = 0; j < kLoads; ++j) here.y += x[j] == -INFINITY ? 0.0f : expf(x[j] - here.x);
      sum = join(sum, here);
    }
    const float largest = lanes_max(sum.x);
    if (lane == 0) args.maxima[int64_t(blockIdx.y) * args.groups + group] = largest;
    total = join(total, sum);
  }
  total = lanes_join(total);
  if (lane == 0) shared[wave] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kWaves; ++i) total = join(total, shared[i]);
  args.partial[int64_t(blockIdx.y) * args.blocks + blockIdx.x] = total;
}

// Bitonic, largest first; count is a power of two.
template <class T>
DW_DEVICE void sort_descending(T* values, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      for (int i = threadIdx.x; i < count / 2; i += kSelectThreads) {
        const int a = i / stride * 2 * stride + i % stride, b = a + stride;
        const T x = values[a], y = values[b];
        if ((a & size) == 0 ? x < y : x > y) values[a] = y, values[b] = x;
      }
      __syncthreads();
    }
  }
}

// The k-th largest key of the row, eight bits at a time.
DW_DEVICE u64 kth_key(const SampleArgs& args, const float* logits, int* histogram, u64* result) {
  u64 prefix = 0, mask = 0;
  int wanted = args.k;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kSelectThreads) histogram[i] = 0;
    __syncthreads();
    for (int id = threadIdx.x; id < args.vocabulary; id += kSelectThreads) {
      const u64 key = key_of(logits[id], id);
      if ((key & mask) == prefix) atomicAdd(&histogram[int(key >> shift) & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      while (wanted > histogram[digit]) wanted -= histogram[digit--];
      *result = prefix | u64(digit) << shift;
      histogram[256] = wanted;
    }
    __syncthreads();
    prefix = *result, wanted = histogram[256];
    mask |= u64(255) << shift;
    __syncthreads();
  }
  return prefix;
}

__global__ void __launch_bounds__(kSelectThreads) sample_select_kernel(SampleArgs args) {
  __shared__ uint32_t maxima[kMaxGroups];
  __shared__ u64 candidates[kMaxCandidates];
  __shared__ float2 sums[kSelectThreads / kWave];
  __shared__ int histogram[257];
  __shared__ u64 bound;
  __shared__ int count;
  wait_for_previous();
  allow_next();
  const int64_t row = blockIdx.x;
  const int lane = threadIdx.x % kWave, wave = threadIdx.x / kWave;
  const float* logits = args.logits + row * args.vocabulary;
  const float* group_maxima = args.maxima + row * args.groups;
  if (threadIdx.x == 0) count = 0;

  // The softmax's maximum and sum.
  float2 total = {-INFINITY, 0};
  for (int i = threadIdx.x; i < args.blocks; i += kSelectThreads)
    total = join(total, args.partial[row * args.blocks + i]);
  total = lanes_join(total);
  if (lane == 0) sums[wave] = total;

  for (int i = threadIdx.x; i < kMaxGroups; i += kSelectThreads)
    maxima[i] = i < args.groups ? ordered(group_maxima[i]) : 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < kSelectThreads / kWave; ++i) total = join(total, sums[i]);
    args.max_and_sum[2 * row] = total.x;
    args.max_and_sum[2 * row + 1] = total.y;
  }
  uint32_t least = 0;
  if (args.groups >= args.k) {
    int size = 2;
    while (size < args.groups) size *= 2;
    sort_descending(maxima, size);
    least = maxima[args.k - 1];
  }

  // Tokens that reach the bound.
  for (int group = wave; group < args.groups; group += kSelectThreads / kWave) {
    if (ordered(group_maxima[group]) < least) continue;
    const int begin = group * args.group;
    const int end = begin + args.group < args.vocabulary ? begin + args.group : args.vocabulary;
    for (int id = begin + lane; id < end; id += kWave) {
      const float x = logits[id];
      if (ordered(x) < least) continue;
      const int at = atomicAdd(&count, 1);
      if (at < kMaxCandidates) candidates[at] = key_of(x, id);
    }
  }
  __syncthreads();
  int found = count;
  __syncthreads();
  if (found > kMaxCandidates) {
    const u64 kth = kth_key(args, logits, histogram, &bound);
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    for (int id = threadIdx.x; id < args.vocabulary; id += kSelectThreads) {
      const u64 key = key_of(logits[id], id);
      if (key >= kth) candidates[atomicAdd(&count, 1)] = key;
    }
    __syncthreads();
    found = args.k;
  }
  int size = 2;
  while (size < found) size *= 2;
  for (int i = found + int(threadIdx.x); i < size; i += kSelectThreads) candidates[i] = 0;
  __syncthreads();
  sort_descending(candidates, size);
  for (int i = threadIdx.x; i < args.k; i += kSelectThreads) {
    const u64 key = candidates[i];
    args.ids[row * args.k + i] = int32_t(~uint32_t(key));
    args.values[row * args.k + i] = unordered(uint32_t(key >> 32));
  }
}

SampleArgs shape_of(int64_t vocabulary) {
  SampleArgs args = {};
  args.vocabulary = int(vocabulary);
  args.group = int(ceil_div(vocabulary, int64_t(kGroupUnit) * kMaxGroups)) * kGroupUnit;
  args.groups = int(ceil_div(vocabulary, args.group));
  args.blocks = int(ceil_div(args.groups, kScanThreads / kWave * kScanGroups));
  return args;
}

}  // namespace

uint64_t top_logits_scratch_bytes(int64_t rows, int64_t vocabulary) {
  const SampleArgs args = shape_of(vocabulary);
  return uint64_t(rows) * (uint64_t(args.blocks) * sizeof(float2) + uint64_t(args.groups) * sizeof(float));
}

void top_logits(Context& context, const float* logits, int64_t rows, int64_t vocabulary, int32_t k,
                int32_t* ids, float* values, float* max_and_sum) {
  DW_CHECK(k >= 1 && k <= kMaxTop && k <= vocabulary, "top_logits gives 1 to 256 tokens");
  DW_CHECK(vocabulary < (int64_t(1) << 31), "token ids are 32 bits wide");
  DW_CHECK(top_logits_scratch_bytes(rows, vocabulary) <= context.scratch_bytes,
           "top_logits needs more scratch memory");
  SampleArgs args = shape_of(vocabulary);
  args.logits = logits, args.k = k, args.ids = ids, args.values = values, args.max_and_sum = max_and_sum;
  args.partial = reinterpret_cast<float2*>(context.scratch);
  args.maxima = reinterpret_cast<float*>(args.partial + rows * args.blocks);
  const double bytes = 4 * double(rows) * double(vocabulary);
  launch(context, "sample_scan_kernel", {"sample", bytes, 2 * double(rows) * double(vocabulary)},
         sample_scan_kernel, dim3(uint32_t(args.blocks), uint32_t(rows)), dim3(kScanThreads), 0, args);
  launch(context, "sample_select_kernel",
         {"sample", double(rows) * (4.0 * args.groups + 4.0 * k * args.group + 8.0 * k), 0},
         sample_select_kernel, dim3(uint32_t(rows)), dim3(kSelectThreads), 0, args);
}

}  // namespace dw::gpu
