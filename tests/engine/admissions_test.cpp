#include "engine/admissions.h"

#include <cstdlib>

namespace dw {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOperations = 300;
#else
constexpr int kOperations = 3000;
#endif

TEST(Admissions, RandomOnesLeaveEveryTextAlone) {
  const char* given = std::getenv("DELTAWING_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261123;
  EngineOptions options;
  options.model_path = DW_TEST_DATA "/model/base.gguf";
  options.cpu.threads = 2;
  const char* more = std::getenv("DELTAWING_OPERATIONS");
  const int operations = more != nullptr ? std::atoi(more) : kOperations;
  test::Admissions admissions(options, seed);
  admissions.run(operations);
  std::printf("seed %llu: %lld generations, %lld of them cancelled, %lld from a snapshot\n",
              static_cast<unsigned long long>(seed), static_cast<long long>(admissions.finished()),
              static_cast<long long>(admissions.cancelled()), static_cast<long long>(admissions.restored()));
  EXPECT_GT(admissions.finished(), operations / 10);
  EXPECT_GT(admissions.cancelled(), operations / 50);
  EXPECT_GT(admissions.restored(), operations / 500);
}

}  // namespace
}  // namespace dw
