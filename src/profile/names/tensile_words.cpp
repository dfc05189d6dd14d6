#include <charconv>

#include "profile/names/tensile.h"

namespace dw::profile {
namespace {

// The numbers of "16_16_1"; n1 is -1. Empty: something else.
std::vector<int64_t> numbers_of(std::string_view text) {
  std::vector<int64_t> numbers;
  while (!text.empty()) {
    const bool negative = text[0] == 'n';
    if (negative) text.remove_prefix(1);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return {};
    numbers.push_back(negative ? -value : value);
    text.remove_prefix(size_t(end - text.data()));
    if (text.empty()) break;
    if (text[0] != '_') return {};
    text.remove_prefix(1);
  }
  return numbers;
}

std::string sizes_text(const auto& sizes, const char* between) {
  std::string text;
  for (const auto size : sizes) text += (text.empty() ? "" : between) + std::to_string(size);
  return text;
}

std::string transposes_words(const TensileName& name) {
  const char a = name.a_transposed(), b = name.b_transposed();
  if (a == '?' || b == '?') return "tensor contraction";
  std::string text = "GEMM, ";
  if (a == b)
    text += a == 'N' ? "neither A nor B transposed" : "A and B transposed";
  else
    text += a == 'T' ? "A transposed and B not" : "B transposed and A not";
  text += std::string(" (") + a + b + ")";
  if (name.a_conjugate) text += ", A conjugate";
  if (name.b_conjugate) text += ", B conjugate";
  return text;
}

std::string types_words(const TensileName& name) {
  if (name.input_type.empty()) return "";
  std::string text(name.input_type);
  if (name.output_type != name.input_type || name.compute_type != name.input_type)
    text += " in, " + std::string(name.output_type) + " out, " + std::string(name.compute_type) + " sums";
  else if (name.high_precision)
    text += " with sums of higher precision";
  if (name.pointer_batched) text += ", batch of pointers";
  if (name.grouped) text += ", grouped";
  return text;
}

std::string tile_words(const TensileName& name) {
  std::string text = "tile of C " + std::to_string(name.tile[0]) + " x " + std::to_string(name.tile[1]) +
                     " a workgroup, K in steps of " + std::to_string(name.tile[2]);
  if (!name.instruction.empty()) text += ", matrix instruction " + sizes_text(name.instruction, "x");
  if (const TensilePart* group = name.find("WorkGroup")) {
    const auto sizes = numbers_of(group->value);
    if (sizes.size() == 3 && sizes[0] > 0 && sizes[0] <= 1024 && sizes[1] > 0 && sizes[1] <= 1024 &&
        sizes[2] > 0 && sizes[2] <= 1024)
      text += ", " + std::to_string(sizes[0] * sizes[1] * sizes[2]) + " threads";
    if (sizes.size() == 3 && sizes[2] > 1)
      text += " in " + std::to_string(sizes[2]) + " groups that share each step";
  }
  return text;
}

std::string split_words(const TensileName& name) {
  const TensilePart* split = name.find("GlobalSplitU");
  const TensilePart* stream = name.find("StreamK");
  const auto parts = split ? numbers_of(split->value) : std::vector<int64_t>();
  if (stream && stream->value != "0") return "; stream-K";
  if (parts.size() == 1 && parts[0] > 1) return "; K split over " + std::to_string(parts[0]) + " workgroups";
  return "";
}

std::string origin_words(const TensileName& name) {
  switch (name.fallback_evidence()) {
    case FallbackEvidence::kLibrary:
      return "; HIP C++ source kernel (ISA000), known from rocBLAS's fallback tables";
    case FallbackEvidence::kSource:
      return "; HIP C++ source kernel (ISA000)";
    case FallbackEvidence::kNone:
      break;
  }
  const std::string architecture = name.architecture();
  return architecture.empty() ? "" : "; assembly for " + architecture;
}

std::string helper_words(const TensileName& name) {
  for (const TensilePart& part : name.problem)
    if (part.key.starts_with("PostGSU"))
      return "adds up the parts of a GEMM whose K was split over workgroups";
  return "scales C by beta, or clears it, before a GEMM whose K is split";
}

std::string flag_meaning(std::string_view flags) {
  std::string text;
  const auto add = [&](std::string_view words) { text += (text.empty() ? "" : "; ") + std::string(words); };
  for (size_t i = 0; i < flags.size(); ++i) {
    const char next = i + 1 < flags.size() ? flags[i + 1] : ' ';
    if (flags[i] == 'B') add("B: beta times C is added");
    if (flags[i] == 'H') add("H: sums have a higher precision than the result");
    if (flags[i] == 'R')
      add(next == 'Z' ? "RZ: other f16 implementation, rounded" : "R: other f16 implementation");
    if (flags[i] == 'I')
      add(next == 'c' ? "Ic: C and D have strides in their first dimension"
                      : "I: A and B have strides in their first dimension");
  }
  return text;
}

std::string problem_meaning(const TensileName& name, const TensilePart& part) {
  if (part.full_name == "flags") return flag_meaning(part.key);
  if (part.full_name != "types") return std::string(part.meaning);
  std::string text = "A and B " + std::string(name.input_type) + ", C and D " +
                     std::string(name.output_type) + ", alpha, beta and sums " +
                     std::string(name.compute_type);
  const bool holds_flags = name.problem.size() == 1 || name.problem[1].full_name != "flags";
  if (holds_flags && part.key.size() > 1 && name.input_type == name.compute_type)
    if (const std::string flags = flag_meaning(std::string_view(part.key).substr(1)); !flags.empty())
      text += "; " + flags;
  return text;
}

std::string operand_meaning(const char* matrix, char transposed, bool conjugate) {
  std::string text = std::string(matrix) + ", the fastest index first: ";
  text += transposed == 'T' ? "transposed" : transposed == 'N' ? "not transposed" : "another layout";
  return conjugate ? text + ", complex conjugate" : text;
}

std::string parameter_meaning(const TensileName& name, const TensilePart& part) {
  if (part.full_name == "LdcEqualsLdd" && name.is_hipblaslt())
    return "always printed by hipBLASLt; says nothing";
  if (part.full_name == "ISA" && name.is_source())
    return "compiled from HIP C++ source, not assembly; this alone does not make it a fallback";
  if (part.full_name.empty()) return "";
  std::string text(part.full_name);
  if (!part.meaning.empty()) text += ": " + std::string(part.meaning);
  return text;
}

}  // namespace

std::string_view fallback_words(FallbackEvidence evidence) {
  switch (evidence) {
    case FallbackEvidence::kLibrary:
      return "strong: a source kernel that occurs in rocBLAS's fallback tables and not in those of gfx906";
    case FallbackEvidence::kSource:
      return "weak: a source kernel; tuned tables of gfx906 hold such kernels too";
    case FallbackEvidence::kNone:
      break;
  }
  return "none";
}

std::string tensile_sentence(const TensileName& name) {
  if (name.is_helper) {
    std::string text = helper_words(name);
    return name.output_type.empty() ? text : text + " (" + std::string(name.output_type) + ")";
  }
  std::string text = transposes_words(name);
  if (const std::string types = types_words(name); !types.empty()) text += ", " + types;
  if (name.has_tile) text += "; " + tile_words(name);
  return text + split_words(name) + origin_words(name);
}

std::string tensile_short(const TensileName& name) {
  std::string text =
      name.is_helper ? "Tensile helper" : std::string("Tensile ") + name.a_transposed() + name.b_transposed();
  if (!name.input_type.empty()) text += " " + std::string(name.input_type);
  if (name.has_tile) text += " MT" + sizes_text(name.tile, "x");
  if (const TensilePart* isa = name.find("ISA")) text += " ISA" + isa->value;
  return text;
}

std::vector<NameDetail> tensile_listing(const TensileName& name) {
  std::vector<NameDetail> list;
  if (!name.prefix.empty()) list.push_back({"Custom", "", "a kernel that was written by hand"});
  list.push_back({"C", name.c_indices,
                  "result: " + std::string(name.c_indices == "ijk" ? "i is M, j is N, k the batch; l is K"
                                                                   : "its indices")});
  if (!name.a_indices.empty()) {
    list.push_back({"A", name.a_indices + (name.a_conjugate ? "C" : ""),
                    operand_meaning("first matrix", name.a_transposed(), name.a_conjugate)});
    list.push_back({"B", name.b_indices + (name.b_conjugate ? "C" : ""),
                    operand_meaning("second matrix", name.b_transposed(), name.b_conjugate)});
  }
  for (const TensilePart& part : name.problem) list.push_back({part.key, "", problem_meaning(name, part)});
  if (name.has_tile)
    list.push_back(
        {"MT", sizes_text(name.tile, "x"),
         "tile of C that a workgroup computes (M x N), and K of one step; not the size of the problem"});
  if (!name.instruction.empty())
    list.push_back({"MI", sizes_text(name.instruction, "x"),
                    name.instruction.size() == 4 ? "matrix instruction: M x N x K x blocks"
                                                 : "matrix instruction: M x N x blocks"});
  for (const TensilePart& part : name.parameters)
    list.push_back({part.key, part.value, parameter_meaning(name, part)});
  if (name.is_source())
    list.push_back({"fallback", "", "evidence " + std::string(fallback_words(name.fallback_evidence()))});
  return list;
}

}  // namespace dw::profile
