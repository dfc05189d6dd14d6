#include "profile/names/name_readers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "profile/names/short_name.h"

namespace dw::profile {
namespace {

constexpr size_t kLongestValue = 64;

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

// Pieces between separators that stand outside of brackets.
std::vector<std::string_view> split_outside(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  if (trimmed(text).empty()) return pieces;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : separator;
    if (c == '<' || c == '(') ++depth;
    if ((c == '>' || c == ')') && depth > 0) --depth;
    if (i < text.size() && (c != separator || depth > 0)) continue;
    pieces.push_back(trimmed(text.substr(begin, i - begin)));
    begin = i + 1;
  }
  return pieces;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// "(ggml_type)12" as "Q4_K", "(int)4" as "4", "(bool)1" as "true".
std::string argument_text(std::string_view text) {
  const size_t close = text.find(')');
  if (!text.starts_with('(') || close == text.npos) return printable_text(text, kLongestValue);
  const std::string_view type = text.substr(1, close - 1), value = text.substr(close + 1);
  if (type == "ggml_type" && is_number(value) && value.size() < 4) {
    int number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    if (const std::string_view name = ggml_type_name(number); !name.empty()) return std::string(name);
  }
  if (type == "bool" && (value == "0" || value == "1")) return value == "1" ? "true" : "false";
  return printable_text(type == "int" || type == "unsigned int" || type == "long" ? value : text,
                        kLongestValue);
}

// Alternatives stand between ';'; one that begins with '=' needs exactly as many arguments as it has names.
void read_arguments(const NameRule& rule, std::string_view whole, std::vector<NameDetail>& details) {
  const auto values = split_outside(template_arguments(whole), ',');
  for (std::string_view names_text : split_outside(rule.arguments, ';')) {
    const bool exact = names_text.starts_with('=');
    if (exact) names_text.remove_prefix(1);
    const auto names = split_outside(names_text, ',');
    if (exact && names.size() != values.size()) continue;
    for (size_t i = 0; i < names.size() && i < values.size(); ++i)
      details.push_back({std::string(names[i]), argument_text(values[i]), ""});
    return;
  }
}

// Flash_fwd_kernel_traits<head size, rows of Q, rows of K, warps, ...>
void read_flash_traits(std::string_view whole, std::vector<NameDetail>& details) {
  constexpr std::string_view kTraits = "kernel_traits<";
  const size_t found = whole.find(kTraits);
  if (found == whole.npos) return;
  const auto values = split_outside(whole.substr(found + kTraits.size(), 64), ',');
  constexpr std::string_view kNames[] = {"head size", "queries of a tile", "keys of a tile"};
  for (size_t i = 0; i < std::size(kNames) && i < values.size(); ++i) {
    const std::string text = argument_text(values[i]);
    if (!is_number(text)) return;
    details.push_back({std::string(kNames[i]), text, ""});
  }
}

// "128x64", "128x128x64"
bool is_sizes(std::string_view text) {
  if (text.find('x') == text.npos) return false;
  for (const std::string_view part : split_outside(text, 'x'))
    if (!is_number(part)) return false;
  return true;
}

using Words = std::pair<std::string_view, std::string_view>;

std::string_view word_of(std::span<const Words> table, std::string_view key) {
  for (const auto& [name, words] : table)
    if (name == key) return words;
  return {};
}

constexpr Words kLayouts[] = {{"nn", "neither A nor B transposed"},
                              {"nt", "B transposed"},
                              {"tn", "A transposed"},
                              {"tt", "A and B transposed"}};
constexpr Words kArchitectures[] = {{"maxwell", "sm_50 and later"}, {"pascal", "sm_60 and later"},
                                    {"volta", "sm_70 and later"},   {"turing", "sm_75 and later"},
                                    {"ampere", "sm_80 and later"},  {"hopper", "sm_90"}};
constexpr Words kProducts[] = {{"sgemm", "f32"},
                               {"dgemm", "f64"},
                               {"hgemm", "f16"},
                               {"cgemm", "complex f32"},
                               {"zgemm", "complex f64"},
                               {"h884gemm", "f16 sums, tensor cores 8x8x4"},
                               {"s884gemm", "f32 sums, tensor cores 8x8x4"},
                               {"s1688gemm", "f32 sums, tensor cores 16x8x8"},
                               {"h1688gemm", "f16 sums, tensor cores 16x8x8"},
                               {"s16816gemm", "f32 sums, tensor cores 16x8x16"},
                               {"h16816gemm", "f16 sums, tensor cores 16x8x16"},
                               {"i16832gemm", "i32 sums, tensor cores 16x8x32"},
                               {"i8816gemm", "i32 sums, tensor cores 8x8x16"},
                               {"scudnn", "f32"},
                               {"hcudnn", "f16"}};
constexpr Words kTypes[] = {{"f16f16", "f16"},       {"bf16bf16", "bf16"}, {"f32f32", "f32"},
                            {"e4m3e4m3", "f8 e4m3"}, {"tf32tf32", "tf32"}, {"i8i8", "i8"},
                            {"f64f64", "f64"},       {"bf16", "bf16"},     {"fp16", "f16"},
                            {"f16", "f16"},          {"f32", "f32"},       {"tf32", "tf32"}};

struct LibraryReader {
  std::vector<NameDetail>& details;
  bool nvjet = false;
  int sizes_seen = 0;
  bool layout_seen = false, type_seen = false;

  void add(std::string_view key, std::string_view value, std::string_view meaning = "") {
    details.push_back({std::string(key), printable_text(value, kLongestValue), std::string(meaning)});
  }

  // The first AxB is the tile. CUTLASS and nvjet add K x stages, nvjet the cluster; the latter are not
  // documented, their reading is what the names suggest.
  void read_sizes(std::string_view token) {
    constexpr std::string_view kKeys[] = {"tile", "K step x stages", "cluster"};
    if (sizes_seen < (nvjet ? 3 : 2)) add(kKeys[sizes_seen], token, nvjet ? "not documented by NVIDIA" : "");
    ++sizes_seen;
  }

  void read(std::string_view token) {
    constexpr std::string_view kTile = "tilesize", kWarps = "warpgroupsize", kAlign = "align";
    if (token.starts_with(kTile) && is_sizes(token.substr(kTile.size()))) {
      add("tile", token.substr(kTile.size()), "M x N x K");
      sizes_seen = 2;
    } else if (token.starts_with(kWarps) && is_sizes(token.substr(kWarps.size()))) {
      add("warp groups", token.substr(kWarps.size()));
    } else if (token.starts_with(kAlign) && is_number(token.substr(kAlign.size()))) {
      add("alignment", token.substr(kAlign.size()), "elements");
    } else if (is_sizes(token)) {
      read_sizes(token);
    } else if (token.starts_with("sm") && is_number(token.substr(2)) && token.size() < 7) {
      add("architecture", token);
    } else if (const auto words = word_of(kArchitectures, token); !words.empty()) {
      add("architecture", token, words);
    } else if (const auto layout = word_of(kLayouts, token); !layout.empty() && !layout_seen) {
      layout_seen = true;
      add("layout", token, layout);
    } else if (const auto product = word_of(kProducts, token); !product.empty()) {
      add("product", token, product);
    } else if (const auto type = word_of(kTypes, token); !type.empty() && !type_seen) {
      type_seen = true;
      add("type", token, type);
    } else if (token == "splitK" || token == "splitk") {
      add("split K", "", "the sum over K is split over blocks");
    } else if (nvjet && token.size() == 3 && token.find_first_not_of("NT") == token.npos) {
      add("layout", token, "A, B and result: N not transposed, T transposed");
    }
  }
};

void read_library(std::string_view own, std::string_view whole, std::vector<NameDetail>& details) {
  std::string_view text = own;
  if (own == "Kernel" || own == "Kernel2" || own == "device_kernel") text = template_arguments(whole);
  text = text.substr(0, 512);
  LibraryReader reader{details, own.starts_with("nvjet")};
  std::string_view before;
  while (!text.empty()) {
    const size_t end = text.find_first_of("_<>, ():");
    const std::string_view token = text.substr(0, end);
    if (before == "cutlass" && is_number(token) && token.size() < 4) {
      reader.add("architecture", "sm_" + std::string(token));
    } else {
      reader.read(token);
    }
    before = token;
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

constexpr Words kCollectives[] = {
    {"AllReduce", "all-reduce"}, {"AllGather", "all-gather"},    {"ReduceScatter", "reduce-scatter"},
    {"Broadcast", "broadcast"},  {"Reduce", "reduce"},           {"SendRecv", "send and receive"},
    {"AllToAll", "all-to-all"},  {"AllToAllPivot", "all-to-all"}};
constexpr Words kAlgorithms[] = {{"RING", "ring"},
                                 {"TREE", "tree"},
                                 {"NVLS", "in the switch"},
                                 {"NVLS_TREE", "in the switch, tree between machines"},
                                 {"COLLNET", "in the network"},
                                 {"PAT", "parallel tree"}};
constexpr Words kProtocols[] = {
    {"LL", "low latency"}, {"LL128", "low latency, 128-byte lines"}, {"SIMPLE", "large messages"}};
constexpr Words kReductions[] = {{"Sum", "sum"},
                                 {"Prod", "product"},
                                 {"Max", "maximum"},
                                 {"Min", "minimum"},
                                 {"MinMax", "minimum or maximum"},
                                 {"PreMulSum", "scaled sum"},
                                 {"SumPostDiv", "mean"}};

void read_collective(std::string_view own, std::vector<NameDetail>& details) {
  while (!own.empty()) {
    const size_t end = own.find('_');
    const std::string_view token = own.substr(0, end);
    for (const auto& [key, table] :
         {std::pair<std::string_view, std::span<const Words>>{"collective", kCollectives},
          {"reduction", kReductions},
          {"algorithm", kAlgorithms},
          {"protocol", kProtocols}})
      if (const auto words = word_of(table, token); !words.empty())
        details.push_back({std::string(key), std::string(token), std::string(words)});
    constexpr std::string_view kElements[] = {"f16", "f32", "f64", "bf16", "f8e4m3", "f8e5m2", "u8",    "i8",
                                              "u32", "i32", "u64", "i64",  "float",  "half",   "double"};
    if (std::find(std::begin(kElements), std::end(kElements), token) != std::end(kElements))
      details.push_back({"type", std::string(token), ""});
    own.remove_prefix(end == own.npos ? own.size() : end + 1);
  }
}

// triton_poi_fused_add_mul_3: what was fused, as the compiler lists it.
void read_fused(std::string_view own, std::vector<NameDetail>& details) {
  constexpr std::string_view kFused = "_fused_";
  const size_t found = own.find(kFused);
  if (!own.starts_with("triton_") || found == own.npos) return;
  std::string_view list = own.substr(found + kFused.size());
  const size_t last = list.rfind('_');
  if (last != list.npos && is_number(list.substr(last + 1))) list = list.substr(0, last);
  if (!is_number(list)) details.push_back({"operations", printable_text(list, kLongestValue), ""});
}

}  // namespace

std::string_view ggml_type_name(int number) {
  constexpr std::array<std::string_view, 41> kNames = {
      "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
      "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
      "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
      "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4"};
  return number >= 0 && size_t(number) < kNames.size() ? kNames[size_t(number)] : std::string_view();
}

std::string printable_text(std::string_view text, size_t longest) {
  constexpr std::string_view kCut = "...";
  const bool cut = text.size() > longest;
  std::string result(text.substr(0, cut ? longest - std::min(longest, kCut.size()) : text.size()));
  for (char& c : result)
    if (c < ' ' || c > '~') c = '?';
  return cut ? result + std::string(kCut.substr(0, longest - result.size())) : result;
}

std::vector<NameDetail> read_details(const NameRule& rule, std::string_view own, std::string_view whole) {
  std::vector<NameDetail> details;
  switch (rule.reader) {
    case NameReader::kArguments:
      read_arguments(rule, whole, details);
      if (rule.category == Category::kAttention) read_flash_traits(whole, details);
      read_fused(own, details);
      break;
    case NameReader::kLibrary:
      read_library(own, whole, details);
      break;
    case NameReader::kCollective:
      read_collective(own, details);
      break;
  }
  return details;
}

}  // namespace dw::profile
