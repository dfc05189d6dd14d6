#include "engine/vocabulary.h"

#include <limits>
#include <string>

namespace dw {
namespace {

constexpr std::string_view kPrefix = "tokenizer.ggml.";

std::string key_name(std::string_view key) {
  return std::string(kPrefix) + std::string(key);
}

Expected<int32_t> token_id(const gguf::File& file, std::string_view key) {
  auto value = file.get_uint(key_name(key));
  if (!value) return value.error();
  if (!value->has_value()) return -1;
  if (**value > uint64_t(std::numeric_limits<int32_t>::max()))
    return make_error(key_name(key), " is ", **value, ", which is no token id");
  return int32_t(**value);
}

Expected<bool> flag(const gguf::File& file, std::string_view key) {
  auto value = file.get_bool(key_name(key));
  if (!value) return value.error();
  return value->value_or(false);
}

}  // namespace

Expected<VocabularyData> read_vocabulary(const gguf::File& file) {
  auto kind = file.get_string(key_name("model"));
  if (!kind) return kind.error();
  if (!kind->has_value())
    return make_error("the file has no tokenizer (the key ", key_name("model"), " is absent)");
  if (**kind != "gpt2")
    return make_error("the file's tokenizer is of the kind '", **kind,
                      "'; only byte-level BPE ('gpt2') is supported");

  VocabularyData data;
  const auto* tokens = file.get_strings(key_name("tokens"));
  if (tokens == nullptr) return make_error("the file lacks the string array ", key_name("tokens"));
  data.tokens = *tokens;
  const auto* merges = file.get_strings(key_name("merges"));
  if (merges == nullptr) return make_error("the file lacks the string array ", key_name("merges"));
  data.merges = *merges;
  if (file.find(key_name("token_type")) != nullptr) {
    const auto types = file.get_ints(key_name("token_type"));
    if (!types) return make_error(key_name("token_type"), " must be an array of integers");
    for (int64_t type : *types) {
      if (type < 0 || type > 100) return make_error(key_name("token_type"), " holds the unknown type ", type);
      data.types.push_back(int32_t(type));
    }
  }
  auto pre = file.get_string(key_name("pre"));
  if (!pre) return pre.error();
  data.pre = pre->value_or("qwen2");

  struct Id {
    std::string_view key;
    int32_t* target;
  };
  for (const Id& id : {Id{"bos_token_id", &data.bos}, Id{"eos_token_id", &data.eos},
                       Id{"eot_token_id", &data.eot}, Id{"padding_token_id", &data.pad}}) {
    auto value = token_id(file, id.key);
    if (!value) return value.error();
    *id.target = *value;
  }
  auto add_bos = flag(file, "add_bos_token");
  if (!add_bos) return add_bos.error();
  data.add_bos = *add_bos;
  auto add_eos = flag(file, "add_eos_token");
  if (!add_eos) return add_eos.error();
  data.add_eos = *add_eos;
  return data;
}

}  // namespace dw
