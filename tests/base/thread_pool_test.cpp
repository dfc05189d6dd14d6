#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace dw {
namespace {

TEST(ThreadPool, RunsEveryTaskExactlyOnce) {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      std::vector<int> counts(size_t(tasks), 0);
      pool.parallel_for(tasks, [&](int64_t task, int thread) {
        ASSERT_LT(thread, threads);
        ++counts[size_t(task)];
      });
      for (int count : counts) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadPool, ResultsOfOneLoopAreSeenByTheNext) {
  ThreadPool pool(3);
  std::vector<int64_t> values(257, 0);
  for (int round = 1; round <= 2000; ++round) {
    pool.parallel_for(int64_t(values.size()), [&](int64_t task, int) {
      const int64_t neighbour = values[size_t((task + 1) % int64_t(values.size()))];
      (void)neighbour;
    });
    pool.parallel_for(int64_t(values.size()), [&](int64_t task, int) { values[size_t(task)] += task; });
  }
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], int64_t(i) * 2000);
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> sum{0};
    pool.parallel_for(8, [&](int64_t task, int) { sum += int(task); });
    EXPECT_EQ(sum.load(), 28);
  }
}

}  // namespace
}  // namespace dw
