#include "model/state.h"

#include "base/check.h"

namespace dw {
namespace {

uint64_t conv_bytes(const HyperParameters& h) {
  return uint64_t(h.conv_taps - 1) * h.channels() * sizeof(float);
}
uint64_t delta_bytes(const HyperParameters& h) {
  return uint64_t(h.v_heads) * h.k_dim * h.v_dim * sizeof(float);
}
uint64_t layer_page_bytes(const HyperParameters& h, const StateOptions& o) {
  return uint64_t(h.kv_heads) * o.page_tokens * ops::kv_row_bytes(o.kv_type, h.head_dim);
}

}  // namespace

uint64_t StateStore::slot_bytes(const HyperParameters& h) {
  return uint64_t(h.recurrent_layer_count()) * (conv_bytes(h) + delta_bytes(h));
}

uint64_t StateStore::page_bytes(const HyperParameters& h, const StateOptions& o) {
  return 2 * uint64_t(h.attention_layer_count() + h.mtp_layers) * layer_page_bytes(h, o);
}

Expected<StateStore> StateStore::create(Device& device, const HyperParameters& h,
                                        const StateOptions& options) {
  Device* const devices[] = {&device};
  return create(devices, Placement::all_on(0, h.layer_count() + h.mtp_layers), h, options);
}

Expected<StateStore> StateStore::create(DeviceList devices, const Placement& placement,
                                        const HyperParameters& h, const StateOptions& options) {
  DW_CHECK(options.slots > 0 && options.pages > 0 && options.page_tokens > 0,
           "StateOptions must be positive");
  StateStore store;
  store.options_ = options;
  store.conv_slot_bytes_ = conv_bytes(h);
  store.delta_slot_bytes_ = delta_bytes(h);
  store.slot_bytes_ = slot_bytes(h);
  const uint64_t cache_bytes = uint64_t(options.pages) * layer_page_bytes(h, options);
  for (int32_t i = 0; i < h.layer_count() + h.mtp_layers; ++i) {
    Device& device = *devices[size_t(placement.mixer[size_t(i)])];
    Layer layer{&device, {}, {}, {}, {}};
    const bool recurrent = i < h.layer_count() && h.recurrent[size_t(i)];
    auto first = device.allocate(recurrent ? uint64_t(options.slots) * store.conv_slot_bytes_ : cache_bytes);
    if (!first) return first.error();
    auto second =
        device.allocate(recurrent ? uint64_t(options.slots) * store.delta_slot_bytes_ : cache_bytes);
    if (!second) return second.error();
    (recurrent ? layer.conv : layer.k) = std::move(*first);
    (recurrent ? layer.delta : layer.v) = std::move(*second);
    store.layers_.push_back(std::move(layer));
  }
  return store;
}

template <class Visit>
void StateStore::visit_slot(int32_t slot, Visit visit) const {
  DW_CHECK(slot >= 0 && slot < options_.slots, "slot out of range");
  for (const Layer& layer : layers_) {
    if (layer.delta.size_bytes() == 0) continue;
    visit(*layer.device, layer.conv.as<std::byte>(), conv_slot_bytes_);
    visit(*layer.device, layer.delta.as<std::byte>(), delta_slot_bytes_);
  }
}

uint64_t StateStore::address() const {
  for (const Layer& layer : layers_) {
    const void* data = layer.delta.data() != nullptr ? layer.delta.data() : layer.k.data();
    if (data != nullptr) return uint64_t(reinterpret_cast<uintptr_t>(data));
  }
  return 0;
}

void StateStore::clear_slot(int32_t slot) {
  visit_slot(slot, [&](Device& device, std::byte* base, uint64_t bytes) {
    device.fill_zero(base + uint64_t(slot) * bytes, bytes);
  });
}

void StateStore::save_slot(int32_t slot, std::byte* to) const {
  visit_slot(slot, [&](Device& device, std::byte* base, uint64_t bytes) {
    device.copy_to_host(to, base + uint64_t(slot) * bytes, bytes);
    to += bytes;
  });
}

void StateStore::load_slot(int32_t slot, const std::byte* from) {
  visit_slot(slot, [&](Device& device, std::byte* base, uint64_t bytes) {
    device.copy_to_device(base + uint64_t(slot) * bytes, from, bytes);
    from += bytes;
  });
}

void StateStore::copy_slot(int32_t from, int32_t to) {
  DW_CHECK(to >= 0 && to < options_.slots, "slot out of range");
  visit_slot(from, [&](Device& device, std::byte* base, uint64_t bytes) {
    device.copy_on_device(base + uint64_t(to) * bytes, base + uint64_t(from) * bytes, bytes);
  });
}

}  // namespace dw
