// What a model remembers of its sequences, on the device for good: pages of KV cache (attention layers) and
// slots of recurrent state (Gated DeltaNet layers: S and the last conv rows). Who owns which page and slot is
// the engine's business; here are the memory, its layout and exact copies of a slot.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/device.h"
#include "model/hparams.h"
#include "model/placement.h"

namespace dw {

struct StateOptions {
  int32_t slots = 1;   // sequences at a time
  int32_t pages = 64;  // shared by all sequences
  int32_t page_tokens = 64;
  ops::KvType kv_type = ops::KvType::kF16;
};

class StateStore {
 public:
  // Each block's state lies on the device of its mixer.
  static Expected<StateStore> create(DeviceList devices, const Placement& placement, const HyperParameters& h,
                                     const StateOptions& options);
  static Expected<StateStore> create(Device& device, const HyperParameters& h, const StateOptions& options);

  const StateOptions& options() const { return options_; }

  // Device addresses, by layer of the trunk; layer_count() + i is the attention of MTP block i.
  float* conv_state(int32_t layer) const { return layers_[size_t(layer)].conv.as<float>(); }
  float* delta_state(int32_t layer) const { return layers_[size_t(layer)].delta.as<float>(); }
  std::byte* k_cache(int32_t layer) const { return layers_[size_t(layer)].k.as<std::byte>(); }
  std::byte* v_cache(int32_t layer) const { return layers_[size_t(layer)].v.as<std::byte>(); }

  // Where its memory begins: differs between stores that live at the same time.
  uint64_t address() const;

  void clear_slot(int32_t slot);  // the state before the first token: zeros
  // An exact copy of a slot's recurrent state in host memory: snapshot_bytes() bytes.
  void save_slot(int32_t slot, std::byte* to) const;
  void load_slot(int32_t slot, const std::byte* from);
  void copy_slot(int32_t from, int32_t to);  // on the device
  uint64_t snapshot_bytes() const { return slot_bytes_; }

  static uint64_t slot_bytes(const HyperParameters& h);                         // of one sequence
  static uint64_t page_bytes(const HyperParameters& h, const StateOptions& o);  // of one page, all layers

 private:
  struct Layer {
    Device* device;
    Buffer conv, delta, k, v;
  };
  template <class Visit>
  void visit_slot(int32_t slot, Visit visit) const;
  StateOptions options_;
  std::vector<Layer> layers_;
  uint64_t conv_slot_bytes_ = 0, delta_slot_bytes_ = 0, slot_bytes_ = 0;
};

}  // namespace dw
