// A model that lies on two devices computes what it computes on one.
#include <gtest/gtest.h>

#include "backend/cpu_device.h"
#include "model/golden.h"

namespace dw {
namespace {

// Logits of the last token of the golden's first sequence.
std::vector<float> last_logits(DeviceList devices, const Placement& placement) {
  Expected<gguf::File> file = gguf::File::open(test::golden_path("tied_mtp.gguf"));
  if (!file) throw std::runtime_error(file.error().message);
  Expected<Model> model = Model::load(*file, devices, placement, {});
  if (!model) throw std::runtime_error(model.error().message);
  Expected<StateStore> state = StateStore::create(devices, placement, model->hyper_parameters(), {});
  if (!state) throw std::runtime_error(state.error().message);
  state->clear_slot(0);
  Batch batch;
  batch.tokens = test::golden_sequences("tied_mtp")[0].tokens;
  batch.tokens.resize(std::min<size_t>(batch.tokens.size(), 50));
  const auto count = int32_t(batch.tokens.size());
  const int32_t page = 0;
  batch.spans = {{0, 0, count, 0, &page}};
  batch.logit_rows = {count - 1};
  std::vector<float> result;
  model->forward(batch, *state,
                 [&](size_t, std::span<float> logits) { result.assign(logits.begin(), logits.end()); });
  return result;
}

TEST(Placement, TwoDevicesComputeWhatOneDoes) {
  CpuOptions options;
  options.threads = 1;
  const auto first = std::move(*make_cpu_device(options)), second = std::move(*make_cpu_device(options));
  Device* const devices[] = {first.get(), second.get()};
  Expected<gguf::File> file = gguf::File::open(test::golden_path("tied_mtp.gguf"));
  const HyperParameters h = *read_hyper_parameters(*file);
  const int32_t blocks = h.layer_count() + h.mtp_layers;
  const Placement alone = Placement::all_on(0, blocks);
  EXPECT_TRUE(alone.on_one_device());
  const std::vector<float> expected = last_logits(devices, alone);
  ASSERT_FALSE(expected.empty());

  Placement experts = alone;  // all experts elsewhere
  std::fill(experts.experts.begin(), experts.experts.end(), 1);
  Placement layers = alone;  // the first layer and the embedding elsewhere
  layers.mixer[0] = layers.experts[0] = layers.embedding = 1;
  Placement head = alone;
  head.head = 1;
  for (const Placement& placement : {experts, layers, head}) {
    EXPECT_FALSE(placement.on_one_device());
    EXPECT_EQ(last_logits(devices, placement), expected);
  }
}

}  // namespace
}  // namespace dw
