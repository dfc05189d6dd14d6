#include "profile/names/tensile.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "profile/names/tensile_parameters.h"

namespace dw::profile {
namespace {

struct TypeName {
  std::string_view code, words;
};
// Longer codes first: "F8B8" before "F8".
constexpr TypeName kTypes[] = {
    {"4xi8", "4 x i8"},
    {"F8B8", "f8 (A) and bf8 (B)"},
    {"B8F8", "bf8 (A) and f8 (B)"},
    {"I64", "i64"},
    {"F8N", "f8 fnuz"},
    {"B8N", "bf8 fnuz"},
    {"I8", "i8"},
    {"F8", "f8"},
    {"B8", "bf8"},
    {"F6", "f6"},
    {"B6", "bf6"},
    {"F4", "f4"},
    {"S", "f32"},
    {"D", "f64"},
    {"C", "c32"},
    {"Z", "c64"},
    {"H", "f16"},
    {"B", "bf16"},
    {"I", "i32"},
    {"X", "xf32"},
};

// The words of `count` types that make up the whole text; empty: it is not that.
std::vector<std::string_view> split_types(std::string_view text, size_t count) {
  if (count == 0) return {};
  for (const TypeName& type : kTypes) {
    if (!text.starts_with(type.code)) continue;
    const std::string_view rest = text.substr(type.code.size());
    if (count == 1) {
      if (rest.empty()) return {type.words};
      continue;
    }
    std::vector<std::string_view> more = split_types(rest, count - 1);
    if (more.empty()) continue;
    more.insert(more.begin(), type.words);
    return more;
  }
  return {};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end == text.npos ? end : end - begin));
    if (end == text.npos) return parts;
    begin = end + 1;
  }
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// "12", "n1", "0p25"
bool is_number(std::string_view text) {
  if (text.starts_with('n')) text.remove_prefix(1);
  if (text.empty() || !is_digit(text.front()) || !is_digit(text.back())) return false;
  return text.find_first_not_of("0123456789") == text.npos ||
         (std::count(text.begin(), text.end(), 'p') == 1 &&
          text.find_first_not_of("0123456789p") == text.npos);
}

// "16x16x8" as numbers; empty unless printing them gives the same text.
std::vector<int32_t> read_sizes(std::string_view text) {
  std::vector<int32_t> sizes;
  for (std::string_view part : split(text, 'x')) {
    int32_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    const bool canonical = !part.empty() && (part[0] != '0' || part.size() == 1) && is_digit(part[0]);
    if (error != std::errc() || end != part.data() + part.size() || !canonical) return {};
    sizes.push_back(value);
  }
  return sizes;
}

bool is_index_text(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'i' && c <= 'z') || (c >= 'I' && c <= 'Z');
  });
}

// Takes "Alik" or "AlikC" apart.
bool read_operand(std::string_view token, char letter, std::string& indices, bool& conjugate) {
  if (token.size() < 3 || token[0] != letter) return false;
  token.remove_prefix(1);
  const bool ends_in_c = token.back() == 'C';
  if (ends_in_c) token.remove_suffix(1);
  if (!is_index_text(token)) return false;
  indices = token;
  conjugate = ends_in_c;
  return true;
}

// Flags: B, H, R, RZ, I, Ic in that order, as far as the table knows.
bool is_flag_text(std::string_view text) {
  return !text.empty() && text.find_first_not_of("BHRZIc") == text.npos;
}

void set_types(TensileName& name, const std::vector<std::string_view>& triple) {
  name.input_type = triple[0];
  name.output_type = triple[1];
  name.compute_type = triple[2];
}

void set_type(TensileName& name, std::string_view type) {
  name.input_type = name.output_type = name.compute_type = type;
}

void set_flags(TensileName& name, std::string_view flags) {
  name.has_beta = flags.find('B') != flags.npos;
  name.high_precision = flags.find('H') != flags.npos;
}

// f32, i32 and f64 are what sums are kept in; other triples are one type and its flags ("HBH").
std::vector<std::string_view> triple_of(std::string_view text) {
  auto types = split_types(text, 3);
  if (!types.empty() && types[2] != "f32" && types[2] != "i32" && types[2] != "f64") types.clear();
  return types;
}

// The types at tokens[0..]; returns how many tokens they and their flags take.
size_t read_types(TensileName& name, const std::vector<std::string_view>& tokens) {
  const auto flags_at = [&](size_t i) { return i < tokens.size() && is_flag_text(tokens[i]); };
  const std::string_view first = tokens[0];
  if (const auto triple = triple_of(first); !triple.empty()) {  // HHS_BH
    set_types(name, triple);
    if (flags_at(1)) set_flags(name, tokens[1]);
    return flags_at(1) ? 2 : 1;
  }
  if (const auto pair = split_types(first, 2); !pair.empty() && tokens.size() > 1) {  // F8H_HHS_BH
    if (const auto triple = triple_of(tokens[1]); !triple.empty()) {
      set_types(name, triple);
      if (flags_at(2)) set_flags(name, tokens[2]);
      return flags_at(2) ? 3 : 2;
    }
  }
  if (const auto one = split_types(first, 1); !one.empty()) {
    set_type(name, one[0]);
    if (tokens.size() > 1) {
      const auto triple = triple_of(std::string(first) + std::string(tokens[1]));  // B_BS_BH
      if (!triple.empty() && split_types(tokens[1], 2).size() == 2) {
        set_types(name, triple);
        if (flags_at(2)) set_flags(name, tokens[2]);
        return flags_at(2) ? 3 : 2;
      }
    }
    if (tokens.size() > 2 && tokens[1].size() > 1 && tokens[1][0] == 'M' && flags_at(2)) {  // S_MX_B
      set_flags(name, tokens[2]);
      return 3;
    }
    return 1;
  }
  for (const TypeName& type : kTypes) {  // SB
    if (!first.starts_with(type.code) || !is_flag_text(first.substr(type.code.size()))) continue;
    set_type(name, type.words);
    set_flags(name, first.substr(type.code.size()));
    return 1;
  }
  return 0;
}

struct Feature {
  std::string_view token, full_name, meaning;
  bool is_prefix = false;  // types follow: "BiasSH"
};
constexpr Feature kFeatures[] = {
    {"GB", "general batched", "the batch is an array of pointers, not strided"},
    {"GG", "grouped GEMM", "several products of different sizes in one launch"},
    {"SR", "StochasticRounding", "results are rounded at random"},
    {"MX", "F32XdlMathOp", "f32 products run as xf32"},
    {"SAB", "UseScaleAB", "A and B have a scale each"},
    {"SABV", "UseScaleAB", "A and B have a scale for each row or column"},
    {"SCD", "UseScaleCD", "C and D have a scale each"},
    {"SAV", "UseScaleAlphaVec", "alpha is a vector"},
    {"UserArgs", "SupportUserArgs", "arguments may come from a buffer on the device"},
    {"AmaxD", "OutputAmaxD", "the largest absolute value of D is written too"},
    {"SPA", "Sparse", "A is 2:4 sparse"},
    {"SPB", "Sparse", "B is 2:4 sparse"},
    {"FDN", "factor dimension", "bias and scale run along N"},
    {"FDMN", "factor dimension", "bias and scale run along M or N"},
    {"GA", "global accumulation", "into the workspace of a split K"},
    {"ScaleAB", "UseScaleAB", "A and B have a scale each"},
    {"ScaleABVec", "UseScaleAB", "A and B have a scale for each row or column"},
    {"ScaleCD", "UseScaleCD", "C and D have a scale each"},
    {"ScaleAlphaVec", "UseScaleAlphaVec", "alpha is a vector"},
    {"BiasSrc", "BiasSrc", "where the bias gradient comes from", true},
    {"Bias", "UseBias", "a bias vector is added", true},
    {"DBias", "bias gradient", "the gradient of the bias is written", true},
    {"HA", "ActivationType", "an activation of hipBLASLt's choice follows", true},
    {"Grad", "Gradient", "a gradient epilogue that reads the auxiliary matrix", true},
    {"Aux", "UseE", "the value before the activation is written too", true},
    {"PostGSU", "post split-K", "adds up the parts that workgroups of a split K left", true},
    {"Reduction", "Reduction", "adds up a bias gradient"},
};

TensilePart feature_part(std::string_view token) {
  for (const Feature& f : kFeatures)
    if (token == f.token || (f.is_prefix && token.starts_with(f.token)))
      return {std::string(token), "", f.full_name, f.meaning};
  return {std::string(token), "", "", ""};
}

void read_problem(TensileName& name, const std::vector<std::string_view>& tokens) {
  const size_t typed = tokens.empty() ? 0 : read_types(name, tokens);
  bool activation = false;
  for (size_t i = 0; i < tokens.size(); ++i) {
    TensilePart part = feature_part(tokens[i]);
    if (i < typed) {
      part.full_name = i + 1 == typed && typed > 1 ? "flags" : "types";
      part.meaning = "";
    } else if (activation && split_types(tokens[i], 1).size() == 1) {
      part.full_name = "ActivationComputeDataType";
      part.meaning = "the activation is computed in this type";
    }
    activation = part.full_name == "ActivationType";
    name.pointer_batched |= i >= typed && tokens[i] == "GB";
    name.grouped |= i >= typed && tokens[i] == "GG";
    name.problem.push_back(std::move(part));
  }
}

// The longest key of the table that leaves a possible value. seen: how often a key came before.
TensilePart read_parameter(std::string_view token, std::map<std::string_view, size_t>& seen) {
  const TensileParameter* best = nullptr;
  for (const TensileParameter& p : tensile_parameters()) {
    if (!token.starts_with(p.key) || (best && p.key.size() <= best->key.size())) continue;
    const std::string_view value = token.substr(p.key.size());
    const bool word = p.value == TensileValue::kWord && value.size() <= 8 &&
                      std::all_of(value.begin(), value.end(), [](char c) {
                        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'f') || is_digit(c);
                      });
    if (value.empty() || is_number(value) || word) best = &p;
  }
  if (best) {
    const size_t before = seen[best->key]++;
    const TensileParameter* last = tensile_parameters().data() + tensile_parameters().size();
    for (size_t i = 0; i < before && best + 1 < last && best[1].key == best->key; ++i) ++best;
    return {std::string(best->key), std::string(token.substr(best->key.size())), best->full_name,
            best->meaning};
  }
  size_t end = token.size();  // unknown: the number at the end is its value
  while (end > 0 && is_digit(token[end - 1])) --end;
  if (end > 1 && end < token.size() && token[end - 1] == 'n') --end;
  if (end == 0) end = token.size();
  return {std::string(token.substr(0, end)), std::string(token.substr(end)), "", ""};
}

void read_parameters(TensileName& name, const std::vector<std::string_view>& tokens, size_t begin) {
  std::map<std::string_view, size_t> seen;
  for (size_t i = begin; i < tokens.size(); ++i) {
    if (i > begin && is_number(tokens[i]))  // "WG16_16_1"
      name.parameters.back().value += "_" + std::string(tokens[i]);
    else
      name.parameters.push_back(read_parameter(tokens[i], seen));
  }
}

char order_of(std::string_view operand, std::string_view c_indices, size_t free) {
  if (operand.empty() || c_indices.size() < 2 || operand.size() < 2) return '?';
  const auto lower = [](char c) { return c >= 'I' && c <= 'Z' ? char(c + ('a' - 'A')) : c; };
  const char fastest = lower(operand[0]);
  if (fastest == c_indices[free]) return 'f';
  return c_indices.find(fastest) == c_indices.npos ? 's' : '?';
}

}  // namespace

char TensileName::a_transposed() const {
  const char order = order_of(a_indices, c_indices, 0);
  return order == 'f' ? 'N' : order == 's' ? 'T' : '?';
}

char TensileName::b_transposed() const {
  const char order = order_of(b_indices, c_indices, 1);
  return order == 's' ? 'N' : order == 'f' ? 'T' : '?';
}

const TensilePart* TensileName::find(std::string_view full_name) const {
  for (const TensilePart& part : parameters)
    if (part.full_name == full_name) return &part;
  return nullptr;
}

bool TensileName::is_hipblaslt() const {
  if (instruction.size() == 3) return true;
  for (const TensilePart& part : problem)
    if (part.key == "UserArgs") return true;
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const TensilePart& p) { return p.key == "LDSB" || p.key == "AFEM"; });
}

std::string TensileName::architecture() const {
  const TensilePart* isa = find("ISA");
  if (!isa || isa->value.empty() || isa->value.find_first_not_of('0') == std::string::npos) return "";
  return "gfx" + isa->value;
}

bool TensileName::is_source() const {
  const TensilePart* isa = find("ISA");
  const TensilePart* language = find("KernelLanguage");
  return (isa && !isa->value.empty() && isa->value.find_first_not_of('0') == std::string::npos) ||
         (language && language->value == "S");
}

// Tiles of the source kernels in rocBLAS b520bc83, Logic/asm_full/hip/hip_*.yaml that none of the gfx906
// files (vega20_*.yaml) has. bf16 has no gfx906 file at all.
FallbackEvidence TensileName::fallback_evidence() const {
  if (!is_source()) return FallbackEvidence::kNone;
  constexpr std::array<int32_t, 3> kHalfTiles[] = {
      {64, 32, 8}, {128, 32, 16}, {64, 16, 16}, {32, 128, 16}, {16, 64, 16}};
  constexpr std::array<int32_t, 3> kSingleTile = {128, 64, 12};
  const bool half = input_type == "f16" && compute_type == "f32";
  const bool known =
      input_type == "bf16" || (input_type == "f32" && tile == kSingleTile) ||
      (half && std::find(std::begin(kHalfTiles), std::end(kHalfTiles), tile) != std::end(kHalfTiles));
  return known ? FallbackEvidence::kLibrary : FallbackEvidence::kSource;
}

std::optional<TensileName> parse_tensile(std::string_view text) {
  TensileName name;
  constexpr std::string_view kCustom = "Custom_";
  if (text.starts_with(kCustom)) {
    name.prefix = kCustom;
    text.remove_prefix(kCustom.size());
  }
  if (!text.starts_with("Cij")) return std::nullopt;
  const size_t end =
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
  if (end != text.npos) name.suffix = text.substr(end);
  std::vector<std::string_view> tokens = split(text.substr(0, end), '_');
  if (tokens.size() < 2 || !is_index_text(tokens[0].substr(1))) return std::nullopt;
  name.c_indices = tokens[0].substr(1);
  size_t next = 1;
  if (tokens.size() > 2 && read_operand(tokens[1], 'A', name.a_indices, name.a_conjugate)) {
    if (read_operand(tokens[2], 'B', name.b_indices, name.b_conjugate)) {
      next = 3;
    } else {
      name.a_indices.clear();
      name.a_conjugate = false;
    }
  }
  name.is_helper = next == 1;
  size_t tile = next;
  std::vector<int32_t> sizes;
  for (; tile < tokens.size(); ++tile) {
    if (!tokens[tile].starts_with("MT")) continue;
    sizes = read_sizes(tokens[tile].substr(2));
    if (sizes.size() == 3) break;
  }
  read_problem(name, {tokens.begin() + ptrdiff_t(next), tokens.begin() + ptrdiff_t(tile)});
  if (tile == tokens.size()) return name;
  std::copy(sizes.begin(), sizes.end(), name.tile.begin());
  name.has_tile = true;
  next = tile + 1;
  if (next < tokens.size() && tokens[next].starts_with("MI")) {
    sizes = read_sizes(tokens[next].substr(2));
    if (sizes.size() == 3 || sizes.size() == 4) {
      name.instruction = sizes;
      ++next;
    }
  }
  read_parameters(name, tokens, next);
  return name;
}

std::string to_string(const TensileName& name) {
  std::string text = name.prefix + "C" + name.c_indices;
  if (!name.a_indices.empty()) {
    text += "_A" + name.a_indices + (name.a_conjugate ? "C" : "");
    text += "_B" + name.b_indices + (name.b_conjugate ? "C" : "");
  }
  for (const TensilePart& part : name.problem) text += "_" + part.key + part.value;
  const auto add_sizes = [&](std::string_view key, const auto& sizes) {
    text += key;
    for (size_t i = 0; i < sizes.size(); ++i) text += (i > 0 ? "x" : "") + std::to_string(sizes[i]);
  };
  if (name.has_tile) add_sizes("_MT", name.tile);
  if (!name.instruction.empty()) add_sizes("_MI", name.instruction);
  for (const TensilePart& part : name.parameters) text += "_" + part.key + part.value;
  return text + name.suffix;
}

}  // namespace dw::profile
