// Sequences that come, go, are cancelled and put back on the GPU leave the others' texts alone.
#include "engine/admissions.h"

#include "gpu/support.h"

namespace dw {
namespace {

TEST(GpuAdmissions, RandomOnesLeaveEveryTextAlone) {
  EngineOptions options;
  options.model_path = DW_TEST_DATA "/model/base.gguf";
  options.device = "gpu";
  test::Admissions admissions(options, 20261123);
  admissions.run(10000);
  std::printf("%lld generations, %lld of them cancelled, %lld from a snapshot\n",
              static_cast<long long>(admissions.finished()), static_cast<long long>(admissions.cancelled()),
              static_cast<long long>(admissions.restored()));
  EXPECT_GT(admissions.finished(), 1000);
}

}  // namespace
}  // namespace dw
