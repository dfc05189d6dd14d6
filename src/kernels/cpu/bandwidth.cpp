#include "kernels/cpu/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

namespace dw::cpu {
namespace {

constexpr int64_t kBufferBytes = int64_t(512) << 20;
constexpr int64_t kTaskBytes = int64_t(1) << 20;
constexpr int kRounds = 8;

uint64_t sum_words(const uint64_t* words, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
  uint64_t sum = 0;
  for (uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

double measure_read_bandwidth(ThreadPool& pool) {
  const std::unique_ptr<uint64_t[]> buffer(new (std::nothrow) uint64_t[kBufferBytes / 8]);
  if (buffer == nullptr) return 0;
  const int64_t tasks = kBufferBytes / kTaskBytes, words = kTaskBytes / 8;
  pool.parallel_for(tasks,
                    [&](int64_t task, int) { std::memset(buffer.get() + task * words, 1, kTaskBytes); });
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(tasks, [&](int64_t task, int) {
      sink.fetch_add(sum_words(buffer.get() + task * words, words), std::memory_order_relaxed);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, double(kBufferBytes) / seconds);
  }
  return sink.load() == 1 ? 0 : best;
}

}  // namespace dw::cpu
