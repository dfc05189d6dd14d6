#include "base/mapped_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/page_fetcher.h"

namespace dw {
namespace {

constexpr uint64_t kPage = 4096;

// A file of 24 MiB that is not in the page cache. Made in the folder the tests run in: a file in a memory
// file system is always present, and would make these tests pass for nothing.
class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::string("mapped_file_test_") + test->name() + "_" + std::to_string(::getpid());
    std::vector<char> data(kSize, 0);
    for (size_t i = 0; i < data.size(); ++i) data[i] = char(i / kPage * 7 + i);
    std::ofstream(path_, std::ios::binary).write(data.data(), std::streamsize(data.size()));
    const int fd = ::open(path_.c_str(), O_RDONLY);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::fsync(fd), 0);
    EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ::close(fd);
    auto file = MappedFile::open(path_);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    file_ = std::move(*file);
    file_.expect_random_access();
    ASSERT_EQ(present(0, kSize), 0u) << "the file system of " << std::filesystem::current_path()
                                     << " keeps its files in memory; run the tests elsewhere";
  }
  void TearDown() override { std::filesystem::remove(path_); }

  // Pages of the range that are in memory.
  uint64_t present(uint64_t offset, uint64_t size) const {
    std::vector<unsigned char> pages(size_t(size / kPage));
    EXPECT_EQ(::mincore(const_cast<std::byte*>(file_.bytes().data()) + offset, size, pages.data()), 0);
    return uint64_t(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
  }
  // The same, once all pages of the range have come; reading has its time.
  uint64_t present_at_last(uint64_t offset, uint64_t size) const {
    for (int i = 0; i < 3000 && present(offset, size) < size / kPage; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return present(offset, size);
  }

  static constexpr uint64_t kSize = 24u << 20;
  std::string path_;
  MappedFile file_;
};

TEST_F(MappedFileTest, FetchBringsInTheWholeRangeAndNothingElse) {
  const uint64_t offset = kPage * 300,
                 size = kPage * 4000;  // more than one request to the kernel may ask for
  fetch_pages(file_.bytes().data() + offset + 5, size - 10);
  EXPECT_EQ(present_at_last(offset, size), size / kPage);
  EXPECT_EQ(present(0, offset) + present(offset + size, kSize - offset - size), 0u);
}

TEST_F(MappedFileTest, PrefetchEndsWithTheFile) {
  file_.prefetch(kSize - 10 * kPage, kSize);
  EXPECT_EQ(present_at_last(kSize - 10 * kPage, 10 * kPage), 10u);
  file_.prefetch(kSize, 1);  // past the end: nothing
}

TEST_F(MappedFileTest, LoadWaitsUntilTheRangeIsThere) {
  const uint64_t offset = kPage * 1000, size = kPage * 3000;
  EXPECT_FALSE(file_.load(offset, size, false));
  EXPECT_EQ(present(offset, size), size / kPage);
  EXPECT_EQ(present(0, offset), 0u);
  file_.load(0, kPage, true);  // locked or not, as the limit on locked memory says
  EXPECT_EQ(present(0, kPage), 1u);
}

TEST_F(MappedFileTest, FetcherAsksForEveryRange) {
  PageFetcher fetcher;
  for (int round = 0; round < 3; ++round) {  // a few at once, more than the head start, and again
    const uint64_t begin = uint64_t(round) * 2000, count = round == 0 ? 3 : 500;
    for (uint64_t i = 0; i < count; ++i) fetcher.add(file_.bytes().data() + (begin + 2 * i) * kPage, kPage);
    fetcher.submit();
    fetcher.wait();
    for (uint64_t i = 0; i < count; ++i)
      EXPECT_EQ(present_at_last((begin + 2 * i) * kPage, kPage), 1u) << round << " " << i;
    EXPECT_EQ(present((begin + 1) * kPage, kPage), 0u);
  }
}

TEST_F(MappedFileTest, FetcherMayEndWithRangesLeft) {
  for (int i = 0; i < 50; ++i) {
    PageFetcher fetcher;
    for (uint64_t j = 0; j < 200; ++j) fetcher.add(file_.bytes().data() + j * kPage, kPage);
    fetcher.submit();
  }
  EXPECT_EQ(uint8_t(file_.bytes()[kPage]), uint8_t(7));
}

}  // namespace
}  // namespace dw
