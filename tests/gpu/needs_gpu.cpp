// Without a device every test of this program is skipped.
#include "gpu/support.h"

namespace dw::test {
namespace {

class NeedsGpu : public testing::Environment {
 public:
  void SetUp() override {
    if (gpu() == nullptr) GTEST_SKIP() << "this test needs a GPU";
  }
};

[[maybe_unused]] const testing::Environment* const kNeedsGpu =
    testing::AddGlobalTestEnvironment(new NeedsGpu);

}  // namespace
}  // namespace dw::test
