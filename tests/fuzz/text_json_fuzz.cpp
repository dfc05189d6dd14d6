// The JSON parser over any bytes: no crash, and what it accepts prints and reads back as the same value.
#include <cstdlib>
#include <string_view>

#include "text/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto value = dw::parse_json(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!value) return 0;
  for (int indent : {-1, 2}) {
    const auto again = dw::parse_json(dw::print_json(*value, indent));
    if (!again || !(*again == *value)) std::abort();
  }
  return 0;
}
