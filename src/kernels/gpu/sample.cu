// The k likeliest tokens of a row of logits, and what a softmax over the whole row needs. Two kernels: the
// largest logit of every group of tokens and its part of the softmax's sum; then one block a row, which finds
// a bound that k groups reach (so that the k-th largest logit does), collects the few tokens that reach it,
// and ranks them. Where too many do (rows in sorted order, rows of equal logits), it finds the k-th token
// digit by digit.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kMaxTop = 256;
constexpr int kSelectThreads = 1024;
constexpr int kMaxGroups = kSelectThreads;
constexpr int kGroupUnit = 256;  // tokens
constexpr int kLoads = kGroupUnit / kWave;
constexpr int kScanThreads = 128;
constexpr int kScanWaves = kScanThreads / kWave;
constexpr int kMaxCandidates = 4096;
constexpr int kMaxRanked = 512;  // beyond, sorting is faster

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
  int group;         // tokens of a group, a multiple of kGroupUnit
  int groups;        // of a row
  float2* of_group;  // [rows, groups]: largest logit, sum of e^(logit - largest)
  int32_t* ids;
  float* values;
  float* max_and_sum;
};

// kLoads logits a lane from `base` on; -inf where the group has ended.
DW_DEVICE void load_logits(const float* logits, int base, int end, float (&x)[kLoads]) {
  const int lane = int(threadIdx.x) % kWave;
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const int id = base + j * kWave + lane;
    x[j] = id < end ? logits[id] : -INFINITY;
  }
}
// A NaN is no logit's maximum, but spoils the sum.
DW_DEVICE float part_of_sum(float x, float largest) {
  return x == -INFINITY ? 0.0f : expf(x - largest);
}

// A group a wave.
__global__ void __launch_bounds__(kScanThreads) sample_scan_kernel(SampleArgs args) {
  wait_for_previous();
  allow_next();
  const int group = int(blockIdx.x) * kScanWaves + int(threadIdx.x) / kWave;
  if (group >= args.groups) return;
  const float* logits = args.logits + int64_t(blockIdx.y) * args.vocabulary;
  const int begin = group * args.group;
  const int end = begin + args.group < args.vocabulary ? begin + args.group : args.vocabulary;
  float largest = -INFINITY, sum = 0;
  for (int base = begin; base < end; base += kGroupUnit) {
    float x[kLoads];
    load_logits(logits, base, end, x);
    float here = x[0];
#pragma unroll
    for (int j = 1; j < kLoads; ++j) here = fmaxf(here, x[j]);
    here = fmaxf(lanes_max(here), largest);
    sum *= part_of_sum(largest, here);
#pragma unroll
    for (int j = 0; j < kLoads; ++j) sum += part_of_sum(x[j], here);
    largest = here;
  }
  sum = lanes_sum(sum);
  if (threadIdx.x % kWave == 0) args.of_group[int64_t(blockIdx.y) * args.groups + group] = {largest, sum};
}

// The same in all threads of a block; shared: [kSelectThreads / kWave].
DW_DEVICE float block_max(float x, float* shared) {
  x = lanes_max(x);
  if (threadIdx.x % kWave == 0) shared[threadIdx.x / kWave] = x;
  __syncthreads();
  x = shared[0];
#pragma unroll
  for (int i = 1; i < kSelectThreads / kWave; ++i) x = fmaxf(x, shared[i]);
  __syncthreads();
  return x;
}
DW_DEVICE float block_sum(float x, float* shared) {
  x = lanes_sum(x);
  if (threadIdx.x % kWave == 0) shared[threadIdx.x / kWave] = x;
  __syncthreads();
  x = shared[0];
#pragma unroll
  for (int i = 1; i < kSelectThreads / kWave; ++i) x += shared[i];
  __syncthreads();
  return x;
}

// A number that at least k of the block's numbers reach, and hardly more: bit by bit from the top, until k
// do.
DW_DEVICE uint32_t bound_of(uint32_t mine, int k) {
  uint32_t bound = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    const uint32_t tried = bound | bit;
    const int reach = __syncthreads_count(mine >= tried);
    if (reach < k) continue;
    bound = tried;
    if (reach == k) break;
  }
  return bound;
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

// Puts candidate i where as many are larger as its place says; keys differ. Several neighbouring threads
// count for one candidate.
DW_DEVICE void store_ranked(const SampleArgs& args, int64_t row, const u64* candidates, int count) {
  int width = kWave;
  while (width > 1 && count * width > kSelectThreads) width /= 2;
  const int first = int(threadIdx.x) / width, part = int(threadIdx.x) % width;
  for (int base = 0; base < count; base += kSelectThreads / width) {
    const int i = base + first;
    const u64 key = i < count ? candidates[i] : 0;
    int rank = 0;
    for (int j = part; j < count; j += width) rank += candidates[j] > key ? 1 : 0;
    for (int mask = 1; mask < width; mask *= 2) rank += lane_xor(rank, mask);
    if (part != 0 || i >= count || rank >= args.k) continue;
    args.ids[row * args.k + rank] = int32_t(~uint32_t(key));
    args.values[row * args.k + rank] = unordered(uint32_t(key >> 32));
  }
}

DW_DEVICE void store_sorted(const SampleArgs& args, int64_t row, u64* candidates, int count) {
  int size = 2;
  while (size < count) size *= 2;
  for (int i = count + int(threadIdx.x); i < size; i += kSelectThreads) candidates[i] = 0;
  __syncthreads();
  sort_descending(candidates, size);
  for (int i = threadIdx.x; i < args.k; i += kSelectThreads) {
    const u64 key = candidates[i];
    args.ids[row * args.k + i] = int32_t(~uint32_t(key));
    args.values[row * args.k + i] = unordered(uint32_t(key >> 32));
  }
}

__global__ void __launch_bounds__(kSelectThreads) sample_select_kernel(SampleArgs args) {
  constexpr int kWaves = kSelectThreads / kWave;
  __shared__ u64 candidates[kMaxCandidates];
  __shared__ float shared[kWaves];
  __shared__ int16_t chosen[kMaxGroups];
  __shared__ int histogram[257];
  __shared__ u64 kth;
  __shared__ int count, chosen_count;
  if (threadIdx.x == 0) count = 0, chosen_count = 0;
  wait_for_previous();
  allow_next();
  const int64_t row = blockIdx.x;
  const float* logits = args.logits + row * args.vocabulary;
  const int mine = int(threadIdx.x), wave = mine / kWave;
  const bool exists = mine < args.groups;
  const float2 group = exists ? args.of_group[row * args.groups + mine] : float2{-INFINITY, 0};
  const float largest = block_max(group.x, shared);
  const float sum = block_sum(group.y == 0 ? 0.0f : group.y * expf(group.x - largest), shared);
  if (mine == 0) args.max_and_sum[2 * row] = largest, args.max_and_sum[2 * row + 1] = sum;

  const uint32_t maximum = exists ? ordered(group.x) : 0;
  const uint32_t least = args.groups >= args.k ? bound_of(maximum, args.k) : 0;
  if (exists && maximum >= least) chosen[atomicAdd(&chosen_count, 1)] = int16_t(mine);
  __syncthreads();
  const int found_groups = chosen_count;
  for (int i = wave; i < found_groups; i += kWaves) {
    const int begin = int(chosen[i]) * args.group;
    const int end = begin + args.group < args.vocabulary ? begin + args.group : args.vocabulary;
    for (int base = begin; base < end; base += kGroupUnit) {
      float x[kLoads];
      load_logits(logits, base, end, x);
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int id = base + j * kWave + mine % kWave;
        if (id >= end || ordered(x[j]) < least) continue;
        const int at = atomicAdd(&count, 1);
        if (at < kMaxCandidates) candidates[at] = key_of(x[j], id);
      }
    }
  }
  __syncthreads();
  int found = count;
  __syncthreads();
  if (found > kMaxCandidates) {
    const u64 last = kth_key(args, logits, histogram, &kth);
    if (mine == 0) count = 0;
    __syncthreads();
    for (int id = mine; id < args.vocabulary; id += kSelectThreads) {
      const u64 key = key_of(logits[id], id);
      if (key >= last) candidates[atomicAdd(&count, 1)] = key;
    }
    __syncthreads();
    found = args.k;
  }
  if (found <= kMaxRanked)
    store_ranked(args, row, candidates, found);
  else
    store_sorted(args, row, candidates, found);
}

SampleArgs shape_of(int64_t vocabulary) {
  SampleArgs args = {};
  args.vocabulary = int(vocabulary);
  args.group = int(ceil_div(vocabulary, int64_t(kGroupUnit) * kMaxGroups)) * kGroupUnit;
  args.groups = int(ceil_div(vocabulary, args.group));
  return args;
}

}  // namespace

uint64_t top_logits_scratch_bytes(int64_t rows, int64_t vocabulary) {
  return uint64_t(rows) * uint64_t(shape_of(vocabulary).groups) * sizeof(float2);
}

void top_logits(Context& context, const float* logits, int64_t rows, int64_t vocabulary, int32_t k,
                int32_t* ids, float* values, float* max_and_sum) {
  DW_CHECK(k >= 1 && k <= kMaxTop && k <= vocabulary, "top_logits gives 1 to 256 tokens");
  DW_CHECK(vocabulary < (int64_t(1) << 31), "token ids are 32 bits wide");
  DW_CHECK(top_logits_scratch_bytes(rows, vocabulary) <= context.scratch_bytes,
           "top_logits needs more scratch memory");
  SampleArgs args = shape_of(vocabulary);
  args.logits = logits, args.k = k, args.ids = ids, args.values = values, args.max_and_sum = max_and_sum;
  args.of_group = reinterpret_cast<float2*>(context.scratch);
  const double bytes = 4 * double(rows) * double(vocabulary);
  launch(context, "sample_scan_kernel", {"sample", bytes, 2 * double(rows) * double(vocabulary)},
         sample_scan_kernel, dim3(ceil_div(args.groups, kScanWaves), uint32_t(rows)), dim3(kScanThreads), 0,
         args);
  launch(context, "sample_select_kernel",
         {"sample", double(rows) * (8.0 * args.groups + 4.0 * k * args.group + 8.0 * k), 0},
         sample_select_kernel, dim3(uint32_t(rows)), dim3(kSelectThreads), 0, args);
}

}  // namespace dw::gpu
