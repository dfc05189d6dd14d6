// Which device runs what. A model may lie on several devices: each block's mixer (attention or delta rule,
// with its state) on one, its mixture of experts on the same or another; the embedding and the output head
// where the first and the last block are, unless said otherwise. Devices are numbered as the caller lists
// them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/device.h"

namespace dw {

struct Placement {
  std::vector<int32_t> mixer;    // by block: layers, then MTP blocks
  std::vector<int32_t> experts;  // by block
  int32_t embedding = 0;
  int32_t head = 0;

  static Placement all_on(int32_t device, int32_t blocks) {
    return {std::vector<int32_t>(size_t(blocks), device), std::vector<int32_t>(size_t(blocks), device),
            device, device};
  }
  bool on_one_device() const {
    for (int32_t d : mixer)
      if (d != embedding) return false;
    for (int32_t d : experts)
      if (d != embedding) return false;
    return head == embedding;
  }
};

using DeviceList = std::span<Device* const>;

}  // namespace dw
