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
  template <class Body>
  void parallel_for(int64_t task_count, const Body& body) {
    run(task_count, &invoke<Body>, const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* body, int64_t task, int thread);
  template <class Body>
  static void invoke(void* body, int64_t task, int thread) {
    (*static_cast<const Body*>(body))(task, thread);
  }
  void run(int64_t task_count, Call call, void* body);
  void work(int thread);
  void worker_main(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // A loop's description; written before generation_ is raised, read after it is seen.
  Call call_ = nullptr;
  void* body_ = nullptr;
  int64_t task_count_ = 0;
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int64_t> next_task_{0};
  alignas(64) std::atomic<int> busy_workers_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace dw
