// Names of kernels made of any bytes: no crash, short names are short and printable, and what is taken for a
// name of Tensile is rebuilt exactly.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "profile/names/kernel_name.h"
#include "profile/names/tensile.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const dw::profile::KernelName name = dw::profile::describe(text);
  if (name.short_name.size() > 64 || name.words.empty()) std::abort();
  for (const char c : name.short_name)
    if (c < ' ' || c > '~') std::abort();
  if (const auto tensile = dw::profile::parse_tensile(text))
    if (to_string(*tensile) != text) std::abort();
  return 0;
}
