// The tensors of a Qwen3-Next GGUF file: names, shapes and what part of the model they are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/hparams.h"

namespace dw {

enum class TensorPart {
  kEmbedding,
  kOutput,
  kAttention,
  kDelta,
  kRoutedExperts,
  kSharedExperts,
  kRouter,
  kNorms,
  kMtp,
  kOther,
};
inline constexpr int kTensorPartCount = 10;

std::string_view tensor_part_name(TensorPart part);  // "routed experts"
// first_mtp_block: the number of trunk layers.
TensorPart tensor_part(std::string_view name, int32_t first_mtp_block);

struct TensorSpec {
  std::string name;
  uint32_t dimension_count = 1;
  std::array<uint64_t, 4> shape{1, 1, 1, 1};  // file order: the input dimension first
};

// All that a file of this shape has to have (split projections, separate experts), in the order of a
// converted file; tied: without output.weight. MTP blocks without embeddings and head of their own.
std::vector<TensorSpec> tensor_list(const HyperParameters& h, bool tied);

}  // namespace dw
