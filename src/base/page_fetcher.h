// Asks the kernel for pages of mapped files, range after range: the first ones at once, the others from a
// thread of its own while its owner computes, because asking waits whenever the queue of the disk is full.
// Ranges need not stay mapped: asking for what is gone does nothing.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

namespace dw {

class PageFetcher {
 public:
  PageFetcher();
  ~PageFetcher();  // drops what has not been asked for yet
  PageFetcher(const PageFetcher&) = delete;
  PageFetcher& operator=(const PageFetcher&) = delete;

  void add(const void* data, uint64_t size_bytes);  // to the next submit(), in the order of use
  void submit();
  void wait();  // until everything submitted has been asked for

 private:
  struct Range {
    const void* data;
    uint64_t size_bytes;
  };
  void main();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Range> added_, submitted_;  // added_ belongs to the owner
  bool busy_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace dw
