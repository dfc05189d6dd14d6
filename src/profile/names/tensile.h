// Names of the matrix kernels that Tensile generates for rocBLAS and hipBLASLt, taken apart and put together
// again. A name is
//   [Custom_] C<ijk> _A<indices>[C] _B<indices>[C] _<types and flags> _MT<m>x<n>x<k> [_MI<m>x<n>x..] _SE|_SN
//   _<parameter><value>... [suffix of the profiler]
// and every part is kept: to_string(parse_tensile(name)) is the name again. Which parameters a name shows
// depends on the build it comes from (those that differ among the kernels of that build).
// Source of the grammar: ROCm/Tensile a164ed70 (SolutionStructs.py ProblemType.__str__, getNameMin;
// Common.py) and hipBLASLt 7d9fb683 (tensilelite, which leaves out digits of parameter names and the K of
// MI).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profile/names/kernel_name.h"

namespace dw::profile {

// A token of the name. What no table knows has no full name and no meaning, but is kept.
struct TensilePart {
  std::string key;             // "GLVWA"
  std::string value;           // "2", "n1" (-1), "16_16_1", "GLC"; key + value is the text
  std::string_view full_name;  // "GlobalLoadVectorWidthA"
  std::string_view meaning;    // "elements of A that a thread loads from global memory at once"
};

// How sure a name makes us that the library had nothing better for the size.
enum class FallbackEvidence {
  kNone,     // assembly written for the architecture, or no statement about its language
  kSource,   // a HIP C++ kernel; tuned tables hold such kernels too, so this proves nothing by itself
  kLibrary,  // a source kernel that occurs in rocBLAS's fallback tables (hip_*) and not in those of gfx906
};

struct TensileName {
  std::string prefix;     // "Custom_"; usually empty
  std::string c_indices;  // "ijk": i = M, j = N, k = batch; the summation index is l
  std::string a_indices;  // "lik", the fastest first; upper case: mirrored
  std::string b_indices;  // "ljk"
  bool a_conjugate = false, b_conjugate = false;
  std::vector<TensilePart> problem;     // between _B.. and _MT..: types and flags, in order, keys only
  std::array<int32_t, 3> tile = {};     // MacroTile0 (M), MacroTile1 (N), DepthU (K of a step)
  bool has_tile = false;                // false: a helper, or a name that was cut
  std::vector<int32_t> instruction;     // MI: M, N, K, blocks (rocBLAS) or M, N, blocks (hipBLASLt)
  std::vector<TensilePart> parameters;  // after the tile; SE and SN among them
  std::string suffix;                   // ".kd", " [clone .kd]", "(...)"

  // Derived from problem; empty where the name does not say.
  std::string_view input_type, output_type, compute_type;  // "f32", "f16", "bf16", "i8" ...
  bool has_beta = false, high_precision = false, pointer_batched = false, grouped = false;
  bool is_helper = false;  // no product: scales C, or adds up the parts of a split K

  char a_transposed() const;  // 'N' or 'T', '?': another contraction than a GEMM
  char b_transposed() const;
  bool is_hipblaslt() const;                                  // TensileLite's style of naming
  const TensilePart* find(std::string_view full_name) const;  // null: the name does not show it
  std::string architecture() const;                           // "gfx906"; empty: source kernel or not said
  bool is_source() const;                                     // ISA000 or KLS: compiled from HIP C++
  FallbackEvidence fallback_evidence() const;
};

// Nothing: the name does not begin as Tensile's names do.
std::optional<TensileName> parse_tensile(std::string_view name);

std::string to_string(const TensileName& name);

// "GEMM, A transposed and B not (TN), f32; tile of C 64 x 32, K in steps of 16; assembly for gfx906; ..."
std::string tensile_sentence(const TensileName& name);
// "TN f32 MT64x32x16 ISA906"
std::string tensile_short(const TensileName& name);
std::string_view fallback_words(FallbackEvidence evidence);

// Every part of the name, in its order.
std::vector<NameDetail> tensile_listing(const TensileName& name);

}  // namespace dw::profile
