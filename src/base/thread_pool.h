// A fixed set of threads that run one parallel loop at a time, made for loops of microseconds: workers spin
// for a short while before they sleep. The calling thread takes part. Work is cut into `task_count` pieces
// that do not depend on the number of threads, so results do not either.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace dw {

class ThreadPool {
 public:
  explicit ThreadPool(int thread_count);  // >= 1, the caller included
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int thread_count() const { return int(workers_.size()) + 1; }

  // Calls body(task, thread) for task = 0 .. task_count-1, each once, on any thread; thread < thread_count()
  // names the thread (for scratch memory). Returns when all are done. Not reentrant; one caller at a time.
  // Threads take tasks in turn; with kContiguous each starts on a share of its own, in order, and helps the
  // others when that is done (so that what one task prefetches serves the next).
  enum class Order { kInTurn, kContiguous };
  template <class Body>
  void parallel_for(int64_t task_count, const Body& body, Order order = Order::kInTurn) {
    run(task_count, &invoke<Body>, const_cast<void*>(static_cast<const void*>(&body)), order);
  }

 private:
  using Call = void (*)(void* body, int64_t task, int thread);
  template <class Body>
  static void invoke(void* body, int64_t task, int thread) {
    (*static_cast<const Body*>(body))(task, thread);
  }
  void run(int64_t task_count, Call call, void* body, Order order);
  void work(int thread);
  void worker_main(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // A loop's description; written before generation_ is raised, read after it is seen.
  Call call_ = nullptr;
  void* body_ = nullptr;
  alignas(64) std::atomic<uint64_t> generation_{0};
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::vector<Share> shares_;  // by thread
  alignas(64) std::atomic<int> busy_workers_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace dw
