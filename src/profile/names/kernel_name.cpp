#include "profile/names/kernel_name.h"

#include <array>

#include "profile/names/demangle.h"
#include "profile/names/name_readers.h"
#include "profile/names/name_rules.h"
#include "profile/names/short_name.h"
#include "profile/names/tensile.h"

namespace dw::profile {
namespace {

constexpr size_t kLongestShortName = 64;
// Real names end long before; what comes after this says nothing more.
constexpr size_t kLongestRead = 65536;

// What some profilers append to names of AMD's kernels.
std::string_view without_suffix(std::string_view name) {
  while (name.ends_with(' ') || name.ends_with('\n') || name.ends_with('\r')) name.remove_suffix(1);
  for (const std::string_view suffix : {" [clone .kd]", ".kd"})
    if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  if (name.ends_with(')')) return name;
  const size_t clone = name.rfind(" [clone ");
  return clone == name.npos ? name : name.substr(0, clone);
}

KernelName describe_tensile(const TensileName& tensile) {
  KernelName name;
  name.family = tensile.is_hipblaslt() ? "hipBLASLt" : "rocBLAS";
  name.category = Category::kGemm;
  name.short_name = printable_text(tensile_short(tensile), kLongestShortName);
  name.words = tensile_sentence(tensile);
  name.details = tensile_listing(tensile);
  return name;
}

std::string sentence(const NameRule& rule, const std::vector<NameDetail>& details) {
  std::string text(rule.words);
  size_t said = 0;
  for (const NameDetail& detail : details) {
    if (++said > 5) break;
    text += said == 1 ? ": " : ", ";
    text += detail.key;
    if (!detail.value.empty()) text += " " + detail.value;
    if (!detail.meaning.empty() && detail.meaning != "not documented by NVIDIA")
      text += " (" + detail.meaning + ")";
  }
  return text;
}

}  // namespace

std::string_view category_name(Category category) {
  switch (category) {
    case Category::kGemm:
      return "GEMM";
    case Category::kQuantisedMatmul:
      return "quantised matmul";
    case Category::kAttention:
      return "attention";
    case Category::kLinearAttention:
      return "linear attention";
    case Category::kConv:
      return "conv";
    case Category::kNorm:
      return "norm";
    case Category::kElementwise:
      return "elementwise";
    case Category::kMemory:
      return "memory";
    case Category::kReduction:
      return "reduction";
    case Category::kRouting:
      return "routing";
    case Category::kCommunication:
      return "communication";
    case Category::kSampling:
      return "sampling";
    case Category::kOther:
      break;
  }
  return "other";
}

std::span<const Category> all_categories() {
  using enum Category;
  static constexpr std::array kAll = {
      kGemm,   kQuantisedMatmul, kAttention, kLinearAttention, kConv,     kNorm, kElementwise,
      kMemory, kReduction,       kRouting,   kCommunication,   kSampling, kOther};
  return kAll;
}

KernelName describe(std::string_view raw) {
  raw = without_suffix(raw.substr(0, kLongestRead));
  if (const auto tensile = parse_tensile(raw)) return describe_tensile(*tensile);
  const std::string demangled = demangle(raw);
  const std::string_view whole =
      demangled.empty() ? raw : std::string_view(demangled).substr(0, kLongestRead);
  std::string_view own = demangled.empty() ? mangled_base_name(raw) : std::string_view();
  const bool still_mangled = !own.empty();
  if (!still_mangled) own = base_name(whole);
  KernelName name;
  name.short_name = printable_text(still_mangled ? std::string(own) : short_name(whole, kLongestShortName),
                                   kLongestShortName);
  const NameRule* rule = find_rule(own, whole);
  if (!rule) {
    name.family = "unknown";
    name.words = "not recognised";
    return name;
  }
  name.family = rule->family;
  name.category = rule->category;
  name.details = read_details(*rule, own, whole);
  name.words = sentence(*rule, name.details);
  return name;
}

}  // namespace dw::profile
