#include "text/json.h"

#include <gtest/gtest.h>

namespace dw {
namespace {
TEST(Json, placeholder) {}
}  // namespace
}  // namespace dw
