// What KernelTrace says where it cannot work, and where it looks for its library. On a device:
// tests/gpu/trace_smoke.cu.
#include "profile/capture/cupti.h"

#include <gmock/gmock.h>

#include <cstdlib>

namespace dw::profile {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(CuptiCandidates, TheVariableStandsAlone) {
  EXPECT_THAT(cupti_candidates("/x/libcupti.so.12", "/cuda", "/cuda"), ElementsAre("/x/libcupti.so.12"));
  const std::string folder = testing::TempDir();
  EXPECT_THAT(cupti_candidates(folder, "", ""),
              ElementsAre(folder + "/libcupti.so.13", folder + "/libcupti.so.12"));
}

TEST(CuptiCandidates, TheLoadersPathComesFirstThenTheToolkit) {
  const auto files = cupti_candidates("", "/home/cuda", "");
  ASSERT_GE(files.size(), 4u);
  EXPECT_EQ(files[0], "libcupti.so.13");
  EXPECT_EQ(files[1], "libcupti.so.12");
  EXPECT_EQ(files[2], "/home/cuda/extras/CUPTI/lib64/libcupti.so.13");
  EXPECT_THAT(files, Contains("/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13"));
}

// In a process of its own: a library that was found once stays loaded.
void start_and_print(const char* library) {
  setenv("CUPTI_LIBRARY", library, 1);
  const auto trace = KernelTrace::start();
  std::fprintf(stderr, "%s\n", trace ? "started" : trace.error().message.c_str());
  std::exit(0);
}

TEST(KernelTraceDeathTest, SaysWhichLibraryIsMissing) {
  EXPECT_EXIT(start_and_print("/nonexistent/libcupti.so.13"), testing::ExitedWithCode(0),
              HasSubstr("no CUPTI library was found (tried /nonexistent/libcupti.so.13)"));
}

TEST(KernelTraceDeathTest, SaysWhatALibraryLacks) {
  EXPECT_EXIT(start_and_print("libm.so.6"), testing::ExitedWithCode(0), HasSubstr("has no cuptiGetVersion"));
}

}  // namespace
}  // namespace dw::profile
