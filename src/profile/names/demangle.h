// C++ names out of symbols of the Itanium ABI (what nvcc, clang and gcc emit).
#pragma once

#include <string>
#include <string_view>

namespace dw::profile {

// The demangled name; of what is not mangled, or cannot safely be demangled, an empty string. Back references
// can make a short symbol stand for gigabytes of text, so symbols with many of them are left alone.
std::string demangle(std::string_view symbol);

// The function's own name, found in a mangled symbol without demangling it: the last part of the nested name
// that it begins with. Empty: there is none.
std::string_view mangled_base_name(std::string_view symbol);

}  // namespace dw::profile
