// Golden models (tests/data/model): loading them, running them in any cut of a ragged batch, and rewriting
// their weights in another type.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "backend/device.h"
#include "gguf/file.h"
#include "gguf/writer.h"
#include "model/model.h"

namespace dw::test {

struct GoldenSequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> rows;  // positions whose logits are stored
  int32_t next = 0;           // the token after the last
};

inline std::string golden_path(const std::string& name) {
  return std::string(DW_TEST_DATA) + "/model/" + name;
}

inline std::vector<GoldenSequence> golden_sequences(const std::string& name) {
  std::vector<GoldenSequence> sequences;
  std::ifstream file(golden_path(name + ".txt"));
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "tokens") sequences.emplace_back();
    for (int32_t value; words >> value;) {
      if (key == "tokens") sequences.back().tokens.push_back(value);
      if (key == "rows") sequences.back().rows.push_back(value);
      if (key == "next") sequences.back().next = value;
    }
  }
  return sequences;
}

inline std::vector<float> golden_logits(const std::string& file_name) {
  std::ifstream file(golden_path(file_name), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

inline double nmse(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size() || b.empty()) return INFINITY;
  double error = 0, power = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    power += double(b[i]) * b[i];
  }
  return error / power;
}

// A model on a device with room for the sequences of its golden.
struct GoldenRun {
  std::unique_ptr<gguf::File> file;
  std::unique_ptr<Model> model;
  std::unique_ptr<StateStore> state;
  std::vector<GoldenSequence> sequences;
  std::vector<std::vector<int32_t>> pages;  // by sequence
  std::vector<int32_t> done;                // tokens already in the state, by sequence

  GoldenRun(Device& device, const std::string& path, std::vector<GoldenSequence> wanted,
            ModelOptions options = {}, ops::KvType kv_type = ops::KvType::kF16)
      : sequences(std::move(wanted)) {
    Expected<gguf::File> opened = gguf::File::open(path);
    if (!opened) throw std::runtime_error(opened.error().message);
    file = std::make_unique<gguf::File>(std::move(*opened));
    options.max_batch_tokens = 1200;
    Expected<Model> loaded = Model::load(*file, device, options);
    if (!loaded) throw std::runtime_error(loaded.error().message);
    model = std::make_unique<Model>(std::move(*loaded));

    StateOptions layout;
    layout.slots = int32_t(sequences.size());
    layout.page_tokens = 24;
    layout.kv_type = kv_type;
    int32_t page = 0;
    for (const GoldenSequence& s : sequences) {
      pages.emplace_back();
      for (size_t t = 0; t < s.tokens.size(); t += size_t(layout.page_tokens)) pages.back().push_back(page++);
    }
    layout.pages = page;
    Expected<StateStore> store = StateStore::create(device, model->hyper_parameters(), layout);
    if (!store) throw std::runtime_error(store.error().message);
    state = std::make_unique<StateStore>(std::move(*store));
    done.resize(sequences.size());
    for (int32_t slot = 0; slot < layout.slots; ++slot) state->clear_slot(slot);
  }

  // One forward pass over the next `counts[s]` tokens of each sequence. out[s] receives the logits of the
  // rows that the golden wants, in order; mtp[s] those of the MTP head.
  void step(const std::vector<int32_t>& counts, std::vector<std::vector<float>>& out,
            std::vector<std::vector<float>>* mtp = nullptr) {
    Batch batch;
    std::vector<int32_t> next_tokens;
    std::vector<size_t> owner;  // sequence of each logit row
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (counts[s] == 0) continue;
      const GoldenSequence& sequence = sequences[s];
      const int32_t first = int32_t(batch.tokens.size());
      batch.spans.push_back({int32_t(s), first, counts[s], done[s], pages[s].data()});
      for (int32_t position = done[s]; position < done[s] + counts[s]; ++position) {
        batch.tokens.push_back(sequence.tokens[size_t(position)]);
        const bool last = size_t(position) + 1 == sequence.tokens.size();
        next_tokens.push_back(last ? sequence.next : sequence.tokens[size_t(position) + 1]);
        for (int32_t row : sequence.rows) {
          if (row != position) continue;
          batch.logit_rows.push_back(first + position - done[s]);
          owner.push_back(s);
        }
      }
      done[s] += counts[s];
    }
    model->forward(batch, *state, [&](size_t i, std::span<float> logits) {
      out[owner[i]].insert(out[owner[i]].end(), logits.begin(), logits.end());
    });
    if (mtp == nullptr) return;
    model->forward_mtp(batch, next_tokens, *state, [&](size_t i, std::span<float> logits) {
      (*mtp)[owner[i]].insert((*mtp)[owner[i]].end(), logits.begin(), logits.end());
    });
  }

  // All sequences to their end, at most `piece` tokens of each in a forward pass (0: whole).
  std::vector<float> run(int32_t piece = 0, std::vector<float>* mtp_logits = nullptr) {
    std::vector<std::vector<float>> out(sequences.size()), mtp(sequences.size());
    for (;;) {
      std::vector<int32_t> counts;
      int32_t total = 0;
      for (size_t s = 0; s < sequences.size(); ++s) {
        const int32_t left = int32_t(sequences[s].tokens.size()) - done[s];
        counts.push_back(piece > 0 ? std::min(piece, left) : left);
        total += counts.back();
      }
      if (total == 0) break;
      step(counts, out, mtp_logits ? &mtp : nullptr);
    }
    std::vector<float> joined;
    for (const auto& part : out) joined.insert(joined.end(), part.begin(), part.end());
    for (const auto& part : mtp) {
      if (mtp_logits) mtp_logits->insert(mtp_logits->end(), part.begin(), part.end());
    }
    return joined;
  }
};

// Writes the model at `from` with its block-quantised tensors in `type` where their rows allow (otherwise in
// F32). For Type::F32 the dequantised model.
inline void rewrite_golden(const std::string& from, const std::string& to, quant::Type type) {
  Expected<gguf::File> file = gguf::File::open(from);
  if (!file) throw std::runtime_error(file.error().message);
  gguf::Writer writer(to);
  for (const gguf::MetadataEntry& entry : file->metadata()) writer.add(entry);
  const auto type_of = [&](const gguf::TensorInfo& tensor) {
    if (quant::type_info(tensor.type).block_size == 1) return tensor.type;
    return tensor.shape[0] % quant::type_info(type).block_size == 0 ? type : quant::Type::F32;
  };
  for (const gguf::TensorInfo& tensor : file->tensors()) {
    writer.declare_tensor(tensor.name, type_of(tensor), {tensor.shape.data(), tensor.dimension_count});
  }
  Expected<void> ok = writer.begin();
  for (const gguf::TensorInfo& tensor : file->tensors()) {
    if (!ok) throw std::runtime_error(ok.error().message);
    const int64_t count = int64_t(tensor.element_count());
    const quant::TypeInfo& target = quant::type_info(type_of(tensor));
    if (target.type == tensor.type) {
      ok = writer.write_data({tensor.data, size_t(tensor.size_bytes)});
      continue;
    }
    std::vector<float> values(static_cast<size_t>(count));
    quant::type_info(tensor.type).dequantize(tensor.data, values.data(), count);
    std::vector<std::byte> blocks(size_t(count) / target.block_size * target.block_bytes);
    target.quantize(values.data(), blocks.data(), count, nullptr);
    ok = writer.write_data(blocks);
  }
  if (ok) ok = writer.finish();
  if (!ok) throw std::runtime_error(ok.error().message);
}

}  // namespace dw::test
