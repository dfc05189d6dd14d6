// The golden models of tests/data/model (see its README): a GGUF, sequences, and the logits transformers
// gives.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "backend/device.h"
#include "gguf/file.h"
#include "model/model.h"

namespace dw {

struct GoldenSequence {
  std::vector<int32_t> tokens, rows;
  int32_t next = 0;
  std::vector<float> logits;  // [rows, vocabulary]
};

struct Golden {
  std::string name;
  int32_t vocabulary = 0;
  std::vector<GoldenSequence> sequences;
  gguf::File file;
};

inline std::string golden_path(const std::string& name) {
  return std::string(DW_TEST_DATA) + "/model/" + name;
}

inline Golden load_golden(const std::string& name, const std::string& suffix) {
  Golden golden;
  golden.name = name;
  auto file = gguf::File::open(golden_path(name + ".gguf"));
  EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
  golden.file = std::move(*file);
  std::ifstream text(golden_path(name + ".txt"));
  std::ifstream logits(golden_path(name + suffix), std::ios::binary);
  EXPECT_TRUE(text.good() && logits.good()) << name;
  for (std::string line; std::getline(text, line);) {
    std::istringstream in(line);
    std::string key;
    in >> key;
    std::vector<int32_t> values;
    for (int32_t value; in >> value;) values.push_back(value);
    if (key == "vocabulary") golden.vocabulary = values.at(0);
    if (key == "tokens") golden.sequences.push_back({values, {}, 0, {}});
    if (key == "rows") golden.sequences.back().rows = values;
    if (key == "next") golden.sequences.back().next = values.at(0);
  }
  for (auto& s : golden.sequences) {
    s.logits.resize(s.rows.size() * size_t(golden.vocabulary));
    logits.read(reinterpret_cast<char*>(s.logits.data()), std::streamsize(s.logits.size() * sizeof(float)));
    EXPECT_TRUE(logits.good()) << name << ": the logits end early";
  }
  return golden;
}

// sum (a - b)^2 / sum b^2
inline double nmse(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, energy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    energy += double(b[i]) * b[i];
  }
  return error / energy;
}

// Runs sequences through a model, cut into pieces, alone or together, and collects the wanted rows.
class GoldenRunner {
 public:
  GoldenRunner(const Golden& golden, Device& device, const ModelOptions& options, int32_t sequences,
               ops::KvType kv_type = ops::KvType::kF16)
      : golden_(golden) {
    auto model = Model::load(golden.file, device, options);
    EXPECT_TRUE(model.has_value()) << (model ? "" : model.error().message);
    model_.emplace(std::move(*model));
    StateOptions state;
    state.slots = sequences;
    state.page_tokens = kPageTokens;
    state.pages = sequences * kPagesPerSequence;
    state.kv_type = kv_type;
    auto store = StateStore::create(device, model_->hyper_parameters(), state);
    EXPECT_TRUE(store.has_value());
    state_.emplace(std::move(*store));
    for (int32_t s = 0; s < sequences; ++s) {
      std::vector<int32_t> pages;  // scattered, so that a wrong page shows
      for (int32_t p = 0; p < kPagesPerSequence; ++p)
        pages.push_back((p * 7 % kPagesPerSequence) * sequences + s);
      pages_.push_back(pages);
      positions_.push_back(0);
    }
  }

  Model& model() { return *model_; }
  StateStore& state() { return *state_; }
  int32_t position(int32_t slot) const { return positions_[size_t(slot)]; }
  void set_position(int32_t slot, int32_t position) { positions_[size_t(slot)] = position; }

  // One forward pass: for each (slot, tokens) pair a span; logits of all rows, [rows of all spans,
  // vocabulary].
  std::vector<float> forward(const std::vector<std::pair<int32_t, std::vector<int32_t>>>& pieces) {
    Batch batch = make_batch(pieces);
    std::vector<float> logits;
    model_->forward(batch, *state_, [&](size_t, std::span<float> row) {
      logits.insert(logits.end(), row.begin(), row.end());
    });
    for (const auto& [slot, tokens] : pieces) positions_[size_t(slot)] += int32_t(tokens.size());
    return logits;
  }

  Batch make_batch(const std::vector<std::pair<int32_t, std::vector<int32_t>>>& pieces) const {
    Batch batch;
    for (const auto& [slot, tokens] : pieces) {
      batch.spans.push_back({slot, int32_t(batch.tokens.size()), int32_t(tokens.size()),
                             positions_[size_t(slot)], pages_[size_t(slot)].data()});
      for (int32_t token : tokens) {
        batch.logit_rows.push_back(int32_t(batch.tokens.size()));
        batch.tokens.push_back(token);
      }
    }
    return batch;
  }

  // A whole sequence in pieces of at most `piece` tokens, in the given slot; all logits.
  std::vector<float> run_alone(int32_t slot, const std::vector<int32_t>& tokens, size_t piece) {
    std::vector<float> logits;
    for (size_t first = 0; first < tokens.size(); first += piece) {
      const auto end = tokens.begin() + int64_t(std::min(tokens.size(), first + piece));
      const auto part = forward({{slot, std::vector<int32_t>(tokens.begin() + int64_t(first), end)}});
      logits.insert(logits.end(), part.begin(), part.end());
    }
    return logits;
  }

  std::vector<float> pick_rows(const std::vector<float>& logits, const std::vector<int32_t>& rows) const {
    std::vector<float> picked;
    const int64_t v = golden_.vocabulary;
    for (int32_t row : rows)
      picked.insert(picked.end(), logits.begin() + row * v, logits.begin() + (row + 1) * v);
    return picked;
  }

 private:
  static constexpr int32_t kPageTokens = 16, kPagesPerSequence = 64;
  const Golden& golden_;
  std::optional<Model> model_;
  std::optional<StateStore> state_;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<int32_t> positions_;
};

}  // namespace dw
