#include "model/file_type.h"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace dw {
namespace {

using quant::Type;
using Id = FileTypeId;

constexpr FileType kFileTypes[] = {
    {Id::kF32, "F32", Type::F32},
    {Id::kF16, "F16", Type::F16},
    {Id::kBF16, "BF16", Type::BF16},
    {Id::kQ8_0, "Q8_0", Type::Q8_0},
    {Id::kQ6_K, "Q6_K", Type::Q6_K},
    {Id::kQ5_K_M, "Q5_K_M", Type::Q5_K},
    {Id::kQ5_K_S, "Q5_K_S", Type::Q5_K},
    {Id::kQ5_1, "Q5_1", Type::Q5_1},
    {Id::kQ5_0, "Q5_0", Type::Q5_0},
    {Id::kQ4_K_M, "Q4_K_M", Type::Q4_K},
    {Id::kQ4_K_S, "Q4_K_S", Type::Q4_K},
    {Id::kIQ4_NL, "IQ4_NL", Type::IQ4_NL},
    {Id::kIQ4_XS, "IQ4_XS", Type::IQ4_XS},
    {Id::kQ4_1, "Q4_1", Type::Q4_1},
    {Id::kQ4_0, "Q4_0", Type::Q4_0},
    {Id::kMXFP4, "MXFP4", Type::MXFP4},
    {Id::kQ3_K_L, "Q3_K_L", Type::Q3_K},
    {Id::kQ3_K_M, "Q3_K_M", Type::Q3_K},
    {Id::kQ3_K_S, "Q3_K_S", Type::Q3_K},
    {Id::kQ2_K, "Q2_K", Type::Q2_K},
    {Id::kQ2_K_S, "Q2_K_S", Type::Q2_K},
    {Id::kIQ3_M, "IQ3_M", Type::IQ3_S},
    {Id::kIQ3_S, "IQ3_S", Type::IQ3_S},
    {Id::kIQ3_XS, "IQ3_XS", Type::IQ3_S},
    {Id::kIQ3_XXS, "IQ3_XXS", Type::IQ3_XXS},
    {Id::kIQ2_M, "IQ2_M", Type::IQ2_S},
    {Id::kIQ2_S, "IQ2_S", Type::IQ2_XS},
    {Id::kIQ2_XS, "IQ2_XS", Type::IQ2_XS},
    {Id::kIQ2_XXS, "IQ2_XXS", Type::IQ2_XXS},
    {Id::kIQ1_M, "IQ1_M", Type::IQ1_M},
    {Id::kIQ1_S, "IQ1_S", Type::IQ1_S},
};

template <class... Ids>
bool is_any(Id id, Ids... ids) {
  return ((id == ids) || ...);
}

bool is_float(Type type) {
  return type == Type::F32 || type == Type::F16 || type == Type::BF16;
}

bool contains(std::string_view text, std::string_view piece) {
  return text.find(piece) != std::string_view::npos;
}

// What the mixing rules tell apart.
enum class Role { kEmbedding, kOutput, kQ, kK, kValue, kAttentionOutput, kUp, kGate, kDown, kOther };

Role role_of(std::string_view name) {
  if (name == "output.weight") return Role::kOutput;
  if (name == "token_embd.weight") return Role::kEmbedding;
  // Joint q, k, v projections count as values: they are as sensitive.
  if (contains(name, "attn_qkv.weight") || contains(name, "attn_v.weight")) return Role::kValue;
  if (contains(name, "attn_k.weight")) return Role::kK;
  if (contains(name, "attn_q.weight")) return Role::kQ;
  if (contains(name, "attn_output.weight")) return Role::kAttentionOutput;
  if (contains(name, "ffn_up")) return Role::kUp;
  if (contains(name, "ffn_gate")) return Role::kGate;
  if (contains(name, "ffn_down")) return Role::kDown;
  return Role::kOther;
}

// The number in "blk.12."; -1 for tensors outside blocks.
int block_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int block = -1;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), block);
  return block;
}

// The first and last eighth of the layers, and every third between.
bool wants_more_bits(int layer, int count) {
  return layer < count / 8 || layer >= 7 * count / 8 || (layer - count / 8) % 3 == 2;
}

class Mixer {
 public:
  Mixer(const MixOptions& options, std::span<const MixTensor> tensors)
      : options_(options), id_(options.file_type.id), blocks_(int(options.block_count)) {
    for (const MixTensor& tensor : tensors) {
      value_count_ += role_of(tensor.name) == Role::kValue;
      tied_ = tied_ && tensor.name != "output.weight";
    }
  }

  TypeChoice choose(const MixTensor& tensor) {
    if (!is_quantisable(tensor)) return {tensor.source, ""};
    TypeChoice choice{options_.file_type.base, ""};
    const TypeOverride* match = find_override(tensor.name);
    if (match != nullptr)
      choice.type = match->type;
    else if (!is_float(choice.type) && !options_.pure)
      choice.type = mixed_type(tensor);
    apply_fallback(tensor, choice);
    return choice;
  }

 private:
  const TypeOverride* find_override(const std::string& name) const {
    for (const TypeOverride& candidate : options_.overrides)
      if (std::regex_search(name, candidate.pattern)) return &candidate;
    return nullptr;
  }

  static void apply_fallback(const MixTensor& tensor, TypeChoice& choice);

  Type mixed_type(const MixTensor& tensor) {
    const Role role = role_of(tensor.name);
    if (role == Role::kOutput || (tied_ && role == Role::kEmbedding)) return output_type(tensor);
    if (id_ == Id::kMXFP4) return tensor.shape[2] > 1 ? Type::MXFP4 : Type::Q8_0;
    const int layer = block_of(tensor.name);
    switch (role) {
      case Role::kEmbedding:
        return embedding_type();
      case Role::kValue:
        return value_type();
      case Role::kK:
        return key_type();
      case Role::kQ:
        return query_type();
      case Role::kAttentionOutput:
        return attention_output_type();
      case Role::kDown:
        return is_low_iq() ? low_iq_down_type() : down_type(layer);
      case Role::kUp:
      case Role::kGate: {
        const bool middle = layer >= blocks_ / 8 && layer < 7 * blocks_ / 8;
        return id_ == Id::kIQ3_XS && middle ? Type::IQ3_XXS : base();
      }
      case Role::kOutput:
      case Role::kOther:
        break;
    }
    return base();
  }

  Type base() const { return options_.file_type.base; }
  // Mixtral's rules are for exactly eight experts.
  bool eight_experts() const { return options_.expert_count == 8; }
  bool grouped() const { return options_.head_group >= 4; }
  bool is_low_iq() const {
    return is_any(id_, Id::kIQ1_S, Id::kIQ1_M, Id::kIQ2_XXS, Id::kIQ2_XS, Id::kIQ2_S, Id::kIQ2_M);
  }

  Type output_type(const MixTensor& tensor) const {
    if (id_ == Id::kMXFP4 || tensor.shape[0] % quant::type_info(base()).block_size != 0) return Type::Q8_0;
    if (is_low_iq() || id_ == Id::kIQ3_XXS) return Type::Q5_K;
    return base() == Type::Q8_0 ? base() : Type::Q6_K;
  }
  Type embedding_type() const {
    if (is_any(id_, Id::kIQ2_XXS, Id::kIQ2_XS, Id::kIQ1_S, Id::kIQ1_M)) return Type::Q2_K;
    return is_any(id_, Id::kIQ2_S, Id::kIQ2_M, Id::kIQ3_XXS) ? Type::IQ3_S : base();
  }

  Type value_type() {
    const int index = value_index_++;
    if (is_low_iq()) {
      if (grouped() || options_.expert_count >= 4) return Type::Q4_K;
      return is_any(id_, Id::kIQ2_S, Id::kIQ2_M) ? Type::IQ3_S : Type::Q2_K;
    }
    if (eight_experts()) return Type::Q8_0;
    switch (id_) {
      case Id::kQ2_K:
        return grouped() ? Type::Q4_K : Type::Q3_K;
      case Id::kIQ3_XXS:
        return grouped() ? Type::Q4_K : Type::IQ3_S;
      case Id::kQ2_K_S:
      case Id::kIQ3_XS:
      case Id::kIQ3_S:
        return grouped() ? Type::Q4_K : base();
      case Id::kIQ3_M:
        return Type::Q4_K;
      case Id::kQ3_K_M:
        return index < 2 ? Type::Q5_K : Type::Q4_K;
      case Id::kQ3_K_L:
        return Type::Q5_K;
      case Id::kIQ4_NL:
      case Id::kIQ4_XS:
        return grouped() ? Type::Q5_K : base();
      case Id::kQ4_K_M:
      case Id::kQ5_K_M:
        return wants_more_bits(index, value_count_) ? Type::Q6_K : base();
      case Id::kQ4_K_S:
        return index < 4 ? Type::Q5_K : base();
      default:
        return base();
    }
  }

  Type key_type() const {
    if (eight_experts()) return is_low_iq() ? Type::Q4_K : Type::Q8_0;
    return query_type();
  }
  Type query_type() const {
    return id_ == Id::kIQ3_XS ? Type::IQ3_XXS : id_ == Id::kIQ3_XXS ? Type::IQ2_S : base();
  }

  Type attention_output_type() const {
    if (eight_experts()) {
      const bool raised =
          is_low_iq() || is_any(id_, Id::kQ2_K, Id::kIQ3_XS, Id::kIQ3_XXS, Id::kQ3_K_S, Id::kQ3_K_M,
                                Id::kIQ4_NL, Id::kQ4_K_S, Id::kQ4_K_M, Id::kIQ3_S, Id::kIQ3_M, Id::kIQ4_XS);
      return raised ? Type::Q5_K : base();
    }
    switch (id_) {
      case Id::kIQ1_S:
      case Id::kIQ1_M:
        return Type::IQ2_XXS;
      case Id::kIQ2_S:
      case Id::kIQ2_M:
      case Id::kIQ3_XXS:
        return Type::IQ3_S;
      case Id::kQ2_K:
        return Type::Q3_K;
      case Id::kQ3_K_M:
      case Id::kIQ3_M:
        return Type::Q4_K;
      case Id::kQ3_K_L:
        return Type::Q5_K;
      default:
        return base();
    }
  }

  // These mixes count tensors, not layers.
  Type low_iq_down_type() {
    if (down_index_++ >= blocks_ / 8) return base();
    return is_any(id_, Id::kIQ2_S, Id::kIQ2_M) ? Type::IQ3_S : Type::Q2_K;
  }
  Type down_type(int layer) const {
    const bool first = layer < blocks_ / 8;
    const bool more = wants_more_bits(layer, blocks_);
    switch (id_) {
      case Id::kQ2_K:
        return Type::Q3_K;
      case Id::kQ2_K_S:
        return first ? Type::Q4_K : base();
      case Id::kIQ3_XXS:
        return first ? Type::Q4_K : Type::Q3_K;
      case Id::kQ3_K_M:
        return layer < blocks_ / 16 ? Type::Q5_K : Type::Q4_K;
      case Id::kIQ3_M:
        return first || (eight_experts() && more) ? Type::Q4_K : base();
      case Id::kQ3_K_L:
        return Type::Q5_K;
      case Id::kQ4_K_M:
      case Id::kQ5_K_M:
        return more ? Type::Q6_K : base();
      case Id::kIQ4_NL:
      case Id::kIQ4_XS:
      case Id::kQ4_K_S:
        return first ? Type::Q5_K : base();
      default:
        return base();
    }
  }

  const MixOptions& options_;
  Id id_;
  int blocks_;
  int value_count_ = 0, value_index_ = 0, down_index_ = 0;
  bool tied_ = true;
};

// Rows that are no whole number of blocks get a type with smaller blocks.
void Mixer::apply_fallback(const MixTensor& tensor, TypeChoice& choice) {
  const quant::TypeInfo& wanted = quant::type_info(choice.type);
  const uint64_t row = tensor.shape[0];
  if (row % wanted.block_size == 0) return;
  Type type = Type::F16;
  switch (choice.type) {
    case Type::IQ1_S:
    case Type::IQ1_M:
    case Type::IQ2_XXS:
    case Type::IQ2_XS:
    case Type::IQ2_S:
    case Type::IQ3_XXS:
    case Type::IQ3_S:
    case Type::IQ4_XS:
      type = Type::IQ4_NL;
      break;
    case Type::Q2_K:
    case Type::Q3_K:
      type = Type::Q4_0;
      break;
    case Type::Q4_K:
      type = Type::Q5_0;
      break;
    case Type::Q5_K:
      type = Type::Q5_1;
      break;
    case Type::Q6_K:
      type = Type::Q8_0;
      break;
    default:
      break;
  }
  if (row % quant::type_info(type).block_size != 0) type = Type::F16;
  choice.type = type;
  choice.note = make_error("rows of ", row, " elements do not divide into the ", wanted.block_size,
                           " of a block of ", wanted.name, "; ", quant::type_info(type).name, " taken")
                    .message;
}

}  // namespace

std::span<const FileType> all_file_types() {
  return kFileTypes;
}

const FileType* find_file_type(std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; };
  const auto same = [&](char a, char b) { return lower(a) == lower(b); };
  for (const FileType& type : kFileTypes)
    if (std::equal(name.begin(), name.end(), type.name.begin(), type.name.end(), same)) return &type;
  return nullptr;
}

const FileType* find_file_type(uint64_t number) {
  for (const FileType& type : kFileTypes)
    if (uint64_t(type.id) == number) return &type;
  return nullptr;
}

Expected<TypeOverride> parse_type_override(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0)
    return make_error("'", text, "' is not PATTERN=TYPE, e.g. ffn_down_exps=Q6_K");
  const quant::TypeInfo* info = quant::find_type(std::string_view(text).substr(equals + 1));
  if (info == nullptr) return make_error("'", text, "': the type '", text.substr(equals + 1), "' is unknown");
  try {
    return TypeOverride{std::regex(text.substr(0, equals)), info->type};
  } catch (const std::regex_error& error) {
    return make_error("'", text, "': the pattern is not a regular expression: ", error.what());
  }
}

bool is_quantisable(const MixTensor& tensor) {
  const bool matrix = tensor.shape[1] > 1 || tensor.shape[2] > 1 || tensor.shape[3] > 1;
  const std::string_view name = tensor.name;
  return matrix && name.ends_with("weight") && !contains(name, "_norm.weight") &&
         !contains(name, "ffn_gate_inp.weight") && !contains(name, "ssm_conv1d");
}

std::vector<TypeChoice> choose_types(std::span<const MixTensor> tensors, const MixOptions& options) {
  // Some rules count the tensors before: in the order of blocks, then of names.
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int block_a = block_of(tensors[a].name), block_b = block_of(tensors[b].name);
    return block_a != block_b ? block_a < block_b : tensors[a].name < tensors[b].name;
  });
  Mixer mixer(options, tensors);
  std::vector<TypeChoice> choices(tensors.size());
  for (const size_t i : order) choices[i] = mixer.choose(tensors[i]);
  return choices;
}

}  // namespace dw
