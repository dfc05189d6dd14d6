#include "base/thread_pool.h"

#include <algorithm>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dw {
namespace {

// About 50 us of spinning: longer than the gaps between the loops of one forward pass, far shorter than the
// gaps between requests.
constexpr int kSpinRounds = 2000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int thread_count) : shares_(size_t(thread_count > 0 ? thread_count : 1)) {
  DW_CHECK(thread_count >= 1, "a pool has at least one thread");
  for (int i = 1; i < thread_count; ++i) workers_.emplace_back([this, i] { worker_main(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_.store(true);
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t task_count, Call call, void* body, Order order) {
  if (task_count <= 0) return;
  if (workers_.empty() || task_count == 1) {
    for (int64_t task = 0; task < task_count; ++task) call(body, task, 0);
    return;
  }
  call_ = call;
  body_ = body;
  // In turn: one share that all take from.
  const int64_t cuts = order == Order::kContiguous ? int64_t(shares_.size()) : 1;
  for (int64_t i = 0; i < int64_t(shares_.size()); ++i) {
    shares_[size_t(i)].next.store(task_count * std::min(i, cuts) / cuts, std::memory_order_relaxed);
    shares_[size_t(i)].end = task_count * std::min(i + 1, cuts) / cuts;
  }
  busy_workers_.store(int(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);
  if (sleepers_.load() > 0) {
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  work(0);
  while (busy_workers_.load(std::memory_order_acquire) > 0) relax();
}

void ThreadPool::work(int thread) {
  const size_t count = shares_.size();
  for (size_t i = 0; i < count; ++i) {
    Share& share = shares_[(size_t(thread) + i) % count];
    for (;;) {
      const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= share.end) break;
      call_(body_, task, thread);
    }
  }
}

void ThreadPool::worker_main(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int i = 0; i < kSpinRounds && generation_.load(std::memory_order_acquire) == seen; ++i) relax();
    if (generation_.load() == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    work(thread);
    busy_workers_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace dw
