#include "base/page_fetcher.h"

#include "base/mapped_file.h"

namespace dw {
namespace {

// Ranges that submit() asks for itself. A thread that starts to compute at once overtakes one that must wake
// up first, and then reads by single faults (decode of 10 experts a layer: 20 % slower). These fit the queue
// of a disk, so that asking does not wait.
constexpr int kHeadStart = 64;

}  // namespace

PageFetcher::PageFetcher() : thread_([this] { main(); }) {}

PageFetcher::~PageFetcher() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void PageFetcher::add(const void* data, uint64_t size_bytes) {
  added_.push_back({data, size_bytes});
}

void PageFetcher::submit() {
  for (int i = 0; i < kHeadStart && !added_.empty(); ++i) {
    fetch_pages(added_.front().data, added_.front().size_bytes);
    added_.pop_front();
  }
  if (added_.empty()) return;
  {
    std::lock_guard lock(mutex_);
    submitted_.insert(submitted_.end(), added_.begin(), added_.end());
  }
  added_.clear();
  changed_.notify_all();
}

void PageFetcher::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return submitted_.empty() && !busy_; });
}

void PageFetcher::main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !submitted_.empty(); });
    if (stopping_) return;
    const Range range = submitted_.front();
    submitted_.pop_front();
    busy_ = true;
    lock.unlock();
    fetch_pages(range.data, range.size_bytes);
    lock.lock();
    busy_ = false;
    if (submitted_.empty()) changed_.notify_all();
  }
}

}  // namespace dw
