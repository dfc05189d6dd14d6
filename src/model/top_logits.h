// The likeliest tokens of a row of logits, found on the device: enough for most samplers, and much less than
// all logits.
#pragma once

#include <cstdint>
#include <span>

namespace dw {

// What a device tells of a row of logits that it keeps: the likeliest tokens, most likely first (equal logits
// by rising id), and the softmax's largest logit and sum of e^(logit - largest) over the whole row.
struct TopLogits {
  std::span<const int32_t> ids;
  std::span<const float> logits;
  int32_t vocabulary = 0;
  float largest = 0;
  float sum = 0;
};

}  // namespace dw
