// What is in a GGUF file, for people and for `inspect`: sizes by part of the model and by type,
// hyper-parameters, tokenizer, template, and what is missing or odd. Works on any readable file, also one
// whose data are incomplete.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gguf/file.h"
#include "model/hparams.h"
#include "model/tensor_list.h"

namespace dw {

struct SizeGroup {
  std::string name;
  uint64_t tensor_count = 0, parameter_count = 0, bytes = 0;
};

struct TokenizerSummary {
  std::string model, pre;
  uint64_t token_count = 0, merge_count = 0;
  std::vector<std::pair<std::string, uint64_t>> special;  // "eos_token_id" -> 151645
  std::optional<std::string> chat_template;
};

struct FileSummary {
  std::string architecture, name;  // empty when absent
  std::string file_type;           // what general.file_type says: "Q4_K_M"; empty when absent
  uint32_t version = 0, alignment = 0;
  std::vector<std::string> paths;
  uint64_t file_bytes = 0;    // of all files
  uint64_t tensor_bytes = 0;  // of the tensors' data
  uint64_t tensor_count = 0, parameter_count = 0;
  double bits_per_weight = 0;
  std::vector<SizeGroup> parts;  // by part of the model, without empty ones
  std::vector<SizeGroup> types;  // by tensor type, the largest first
  std::optional<HyperParameters> shape;
  TokenizerSummary tokenizer;
  std::vector<std::string> warnings;
};

FileSummary summarize(const gguf::File& file);

}  // namespace dw
