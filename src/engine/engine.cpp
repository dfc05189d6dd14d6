#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <span>

#include "base/check.h"
#include "engine/stop_strings.h"
#include "engine/vocabulary.h"
#include "text/detokenizer.h"

namespace dw {
namespace {

constexpr int32_t kPageTokens = 64;
constexpr int32_t kCandidates = 64;  // best tokens that a device hands over instead of all logits
constexpr int32_t kDefaultContext = 4096;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A product with zero is zero for finite values only; unlike a test of each value, this loop vectorises.
bool all_finite(std::span<const float> values) {
  float sum = 0;
  for (float value : values) sum += value * 0.0f;
  return sum == 0;
}

}  // namespace

struct Engine::Generation {
  Generation(const GenerateOptions& o, const Tokenizer& tokenizer)
      : options(o), sampler(o.sampling), stops(o.stops), detokenizer(tokenizer, o.show_special) {}
  GenerateOptions options;
  Sampler sampler;
  StopStrings stops;
  Detokenizer detokenizer;
  OnGenerated on_generated;
  int64_t produced = 0;
};

struct Engine::Session {
  struct Checkpoint {
    int64_t position = 0;
    std::vector<std::byte> state;
    std::vector<float> logits;
  };
  SessionId id = 0;
  int32_t slot = 0;
  std::vector<int32_t> pages;
  std::vector<int32_t> tokens;   // in the state
  std::vector<int32_t> pending;  // to be run
  std::vector<float> logits;     // after tokens.back(); empty: not known
  // The best tokens instead of all logits, and where the model keeps all until its next pass.
  std::vector<int32_t> top_ids;
  std::vector<float> top_values;
  float top_maximum = 0, top_sum = 0;
  size_t top_row = 0;
  std::vector<Checkpoint> checkpoints;  // by rising position
  std::unique_ptr<Generation> generation;
  std::function<void(int32_t, std::span<const float>)> on_logits;
  bool is_prompt = false;  // pending came from set_prompt
  SessionTimes times;
};

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kEndOfText:
      return "stop";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

Expected<int32_t> resolve_context(const EngineOptions& options, const HyperParameters& h) {
  if (options.context_tokens > h.context_length)
    return make_error("the context (-c) is ", options.context_tokens,
                      " tokens; this model was made for at most ", h.context_length);
  const int32_t context = options.context_tokens > 0    ? options.context_tokens
                          : options.context_tokens == 0 ? h.context_length
                                                        : std::min(kDefaultContext, h.context_length);
  if (int64_t(options.max_sessions) * context > std::numeric_limits<int32_t>::max())
    return make_error(options.max_sessions, " sequences of ", context,
                      " tokens are more than the engine can number; use a smaller context (-c) or fewer "
                      "sequences (-np)");
  return context;
}

MemoryRequest memory_request(const EngineOptions& options, int32_t context_tokens) {
  MemoryRequest request;
  request.model.max_batch_tokens = std::min(options.batch_tokens, context_tokens) + options.max_sessions - 1;
  request.model.delta_chunk = options.delta_chunk;
  request.model.head_rows = std::clamp(options.max_sessions, 32, 256);
  request.state.slots = options.max_sessions;
  request.state.page_tokens = kPageTokens;
  request.state.pages = options.max_sessions * ((context_tokens + kPageTokens - 1) / kPageTokens);
  request.state.kv_type = options.kv_type;
  request.weights_mapped = options.use_mmap;
  request.threads = options.cpu.threads > 0 ? options.cpu.threads : physical_core_count();
  request.snapshots = options.checkpoints * options.max_sessions;
  return request;
}

Engine::~Engine() = default;

Expected<std::unique_ptr<Engine>> Engine::create(const EngineOptions& options) {
  auto engine = std::unique_ptr<Engine>(new Engine);
  engine->options_ = options;
  if (options.max_sessions < 1 || options.max_sessions > 4096)
    return make_error("the number of sequences must be 1 to 4096, not ", options.max_sessions);
  if (options.batch_tokens < options.max_sessions || options.batch_tokens > 65536)
    return make_error("the batch size (-ub) must be ", options.max_sessions,
                      " (the number of sequences) to 65536, not ", options.batch_tokens);
  if (auto loaded = engine->load_file(); !loaded) return loaded.error();
  if (auto loaded = engine->plan_and_load_model(); !loaded) return loaded.error();
  return engine;
}

Expected<void> Engine::load_file() {
  gguf::OpenOptions open;
  open.mode = options_.use_mmap ? MappedFile::Mode::kMap : MappedFile::Mode::kRead;
  if (options_.progress && !options_.use_mmap)
    open.progress = [this](uint64_t done, uint64_t total) { options_.progress("reading", done, total); };
  if (!options_.use_mmap) {  // refuse before reading what cannot fit
    gguf::OpenOptions header = open;
    header.mode = MappedFile::Mode::kMap;
    header.progress = {};
    auto probe = gguf::File::open(options_.model_path, header);
    if (!probe) return probe.error();
    file_ = std::make_unique<gguf::File>(std::move(*probe));
    return {};
  }
  auto file = gguf::File::open(options_.model_path, open);
  if (!file) return file.error();
  file_ = std::make_unique<gguf::File>(std::move(*file));
  return {};
}

Expected<void> Engine::plan_and_load_model() {
  auto h = read_hyper_parameters(*file_);
  if (!h) return h.error();
  auto vocabulary = read_vocabulary(*file_);
  if (!vocabulary) return vocabulary.error();
  auto tokenizer = Tokenizer::create(std::move(*vocabulary));
  if (!tokenizer) return tokenizer.error();
  tokenizer_ = std::make_unique<Tokenizer>(std::move(*tokenizer));
  if (tokenizer_->size() > h->vocabulary)
    return make_error("the tokenizer has ", tokenizer_->size(), " tokens but token_embd.weight only ",
                      h->vocabulary, " rows");

  auto context = resolve_context(options_, *h);
  if (!context) return context.error();
  context_tokens_ = *context;
  if (auto opened = open_devices(); !opened) return opened.error();
  const MemoryRequest request = memory_request(options_, context_tokens_);
  if (auto placed = place_model(*h, request); !placed) return placed.error();
  const uint64_t free_bytes = devices_.back()->memory().free_bytes;

  if (!options_.use_mmap) {
    gguf::OpenOptions open;
    open.mode = MappedFile::Mode::kRead;
    if (options_.progress)
      open.progress = [this](uint64_t done, uint64_t total) { options_.progress("reading", done, total); };
    auto file = gguf::File::open(options_.model_path, open);
    if (!file) return file.error();
    *file_ = std::move(*file);
  } else if (plan_.exceeds(free_bytes) && uses_host_weights()) {
    devices_.back()->expect_absent_experts();
    load_dense_weights(*file_, free_bytes - plan_.resident_bytes(), [this](uint64_t done, uint64_t total) {
      if (options_.progress) options_.progress("reading", done, total);
    });
  } else if (options_.prefetch) {
    for (const MappedFile& map : file_->maps()) map.prefetch(0, map.bytes().size());
  }
  std::vector<Device*> devices;
  for (const auto& device : devices_) devices.push_back(device.get());
  auto model = Model::load(*file_, devices, placement_, request.model, [this](uint64_t done, uint64_t total) {
    if (options_.progress) options_.progress("loading", done, total);
  });
  if (!model) return model.error();
  model_ = std::make_unique<Model>(std::move(*model));
  auto state = StateStore::create(devices, placement_, model_->hyper_parameters(), request.state);
  if (!state) return state.error();
  state_ = std::make_unique<StateStore>(std::move(*state));
  sessions_.resize(size_t(options_.max_sessions));
  for (int32_t page = request.state.pages; page-- > 0;) free_pages_.push_back(page);
  return {};
}

Engine::Session& Engine::session(SessionId id) {
  DW_CHECK(id >= 0 && size_t(id) < sessions_.size() && sessions_[size_t(id)] != nullptr, "no such session");
  return *sessions_[size_t(id)];
}
const Engine::Session& Engine::session(SessionId id) const {
  return const_cast<Engine*>(this)->session(id);
}
const std::vector<int32_t>& Engine::tokens(SessionId id) const {
  return session(id).tokens;
}
const SessionTimes& Engine::times(SessionId id) const {
  return session(id).times;
}

Expected<SessionId> Engine::open_session() {
  for (size_t i = 0; i < sessions_.size(); ++i) {
    if (sessions_[i] != nullptr) continue;
    auto s = std::make_unique<Session>();
    s->id = s->slot = int32_t(i);
    state_->clear_slot(s->slot);
    sessions_[i] = std::move(s);
    return SessionId(i);
  }
  return make_error("all ", sessions_.size(), " sequences are in use; start with more (-np)");
}

void Engine::close_session(SessionId id) {
  Session& s = session(id);
  free_pages_.insert(free_pages_.end(), s.pages.rbegin(), s.pages.rend());
  sessions_[size_t(id)].reset();
}

void Engine::clear(SessionId id) {
  Session& s = session(id);
  DW_CHECK(s.generation == nullptr, "the session is generating");
  s.pending.clear();
  state_->clear_slot(s.slot);
  drop_after(s, 0);
}

// Forgets everything after `position`, which must be where the recurrent state stands after this call.
void Engine::drop_after(Session& s, int64_t position) {
  s.tokens.resize(size_t(position));
  s.logits.clear();
  s.top_ids.clear();
  std::erase_if(s.checkpoints, [&](const Session::Checkpoint& c) { return c.position > position; });
  const size_t keep = size_t((position + kPageTokens - 1) / kPageTokens);
  while (s.pages.size() > keep) {
    free_pages_.push_back(s.pages.back());
    s.pages.pop_back();
  }
}

void Engine::take_checkpoint(Session& s) {
  if (options_.checkpoints <= 0 || s.tokens.empty()) return;
  if (!s.checkpoints.empty() && s.checkpoints.back().position == int64_t(s.tokens.size())) return;
  if (int32_t(s.checkpoints.size()) >= options_.checkpoints) s.checkpoints.erase(s.checkpoints.begin());
  Session::Checkpoint c;
  c.position = int64_t(s.tokens.size());
  c.state.resize(state_->snapshot_bytes());
  state_->save_slot(s.slot, c.state.data());
  read_logits(s);
  c.logits = s.logits;
  s.checkpoints.push_back(std::move(c));
}

Expected<void> Engine::set_prompt(SessionId id, const std::vector<int32_t>& tokens) {
  Session& s = session(id);
  read_logits(s);
  DW_CHECK(s.generation == nullptr, "the session is generating");
  if (tokens.empty()) return make_error("the prompt is empty: there is nothing to continue");
  if (int64_t(tokens.size()) > context_tokens_)
    return make_error("the prompt has ", tokens.size(), " tokens and the context only ", context_tokens_,
                      "; use a larger context (-c) or a shorter prompt");
  for (int32_t token : tokens)
    if (token < 0 || token >= model_->hyper_parameters().vocabulary)
      return make_error("the prompt holds the token ", token, ", which is not in the vocabulary");

  s.pending.clear();
  size_t common = 0;
  while (common < std::min(s.tokens.size(), tokens.size()) && s.tokens[common] == tokens[common]) ++common;
  const bool goes_on = common == s.tokens.size() && (common < tokens.size() || !s.logits.empty());
  if (!goes_on) {
    const Session::Checkpoint* best = nullptr;
    for (const auto& c : s.checkpoints)
      if (c.position < int64_t(tokens.size()) ? c.position <= int64_t(common)
                                              : c.position == int64_t(common) && !c.logits.empty())
        best = &c;
    if (best != nullptr) {
      state_->load_slot(s.slot, best->state.data());
      const std::vector<float> logits = best->logits;
      drop_after(s, best->position);
      s.logits = logits;
    } else {
      state_->clear_slot(s.slot);
      drop_after(s, 0);
    }
  }
  s.times = {};
  s.times.reused_tokens = int64_t(s.tokens.size());
  s.times.prompt_tokens = int64_t(tokens.size()) - s.times.reused_tokens;
  s.pending.assign(tokens.begin() + int64_t(s.tokens.size()), tokens.end());
  s.is_prompt = !s.pending.empty();
  return {};
}

Expected<void> Engine::generate(SessionId id, const GenerateOptions& options, OnGenerated on_generated) {
  Session& s = session(id);
  DW_CHECK(s.generation == nullptr, "the session is generating");
  if (s.pending.empty() && s.logits.empty() && s.top_ids.empty())
    return make_error("there is no prompt to continue");
  if (auto ok = check_sampling(options.sampling, model_->hyper_parameters().vocabulary); !ok)
    return ok.error();
  s.generation = std::make_unique<Generation>(options, *tokenizer_);
  s.generation->on_generated = std::move(on_generated);
  for (int32_t token : s.tokens) s.generation->sampler.accept(token);
  for (int32_t token : s.pending) s.generation->sampler.accept(token);
  return {};
}

Expected<void> Engine::score(SessionId id, std::function<void(int32_t, std::span<const float>)> on_logits) {
  Session& s = session(id);
  if (s.pending.empty()) return make_error("there are no queued tokens to score");
  s.on_logits = std::move(on_logits);
  return {};
}

bool Engine::has_work() const {
  for (const auto& s : sessions_)
    if (s != nullptr && (!s->pending.empty() || s->generation != nullptr)) return true;
  return false;
}

Expected<void> Engine::run() {
  while (has_work())
    if (auto done = step(); !done) return done.error();
  return {};
}

void Engine::cancel(SessionId id) {
  Session& s = session(id);
  s.pending.clear();
  s.is_prompt = false;
  s.on_logits = nullptr;
  if (s.generation != nullptr) finish(s, FinishReason::kCancelled, -1, nullptr);
}

bool Engine::grow_pages(Session& s, int64_t tokens) {
  while (int64_t(s.pages.size()) * kPageTokens < tokens) {
    if (free_pages_.empty()) return false;
    s.pages.push_back(free_pages_.back());
    free_pages_.pop_back();
  }
  return true;
}

// Single tokens of running generations first, then pieces of prompts. Where a prompt is cut depends on the
// prompt alone (batch_tokens rows a piece): a piece that does not fit waits for the next batch. So each
// sequence gets the bits it would get alone.
Batch Engine::form_batch(std::vector<SessionId>& members) {
  Batch batch;
  const int64_t capacity = model_->options().max_batch_tokens;
  const int64_t piece = capacity - (options_.max_sessions - 1);  // one always fits beside the single tokens
  for (const bool prompts : {false, true})
    for (const auto& pointer : sessions_) {
      if (pointer == nullptr || pointer->pending.empty() || pointer->is_prompt != prompts) continue;
      Session& s = *pointer;
      const int64_t count = std::min<int64_t>(piece, int64_t(s.pending.size()));
      if (int64_t(batch.tokens.size()) + count > capacity) continue;
      DW_CHECK(grow_pages(s, int64_t(s.tokens.size()) + count), "every session has its pages set aside");
      const int32_t first = int32_t(batch.tokens.size());
      batch.spans.push_back({s.slot, first, int32_t(count), int32_t(s.tokens.size()), s.pages.data()});
      batch.tokens.insert(batch.tokens.end(), s.pending.begin(), s.pending.begin() + count);
      if (s.on_logits != nullptr)
        for (int32_t i = 0; i < count; ++i) batch.logit_rows.push_back(first + i);
      else if (count == int64_t(s.pending.size()))
        batch.logit_rows.push_back(first + int32_t(count) - 1);
      members.push_back(s.id);
    }
  return batch;
}

// Draws the session's next token.
Expected<Sampled> Engine::sample(Session& s) {
  static constexpr const char* kNotFinite =
      "the model produced values that are not finite: the file is damaged or of an unknown kind";
  if (!s.top_ids.empty()) {
    if (!std::isfinite(s.top_maximum) || !std::isfinite(s.top_sum)) return make_error(kNotFinite);
    const TopLogits top{s.top_ids, s.top_values, model_->hyper_parameters().vocabulary, s.top_maximum,
                        s.top_sum};
    if (auto sampled = s.generation->sampler.sample_top(top)) return std::move(*sampled);
    read_logits(s);
  }
  if (!all_finite(s.logits)) return make_error(kNotFinite);
  logits_ = s.logits;  // the sampler changes them
  return s.generation->sampler.sample(logits_);
}

// All logits of a session of which only the best tokens came over.
void Engine::read_logits(Session& s) {
  if (s.top_ids.empty()) return;
  s.logits.resize(size_t(model_->hyper_parameters().vocabulary));
  model_->read_logits(s.top_row, s.logits);
  s.top_ids.clear();
}

// How many candidates suffice for every row of the batch; 0: someone wants all logits.
int32_t Engine::candidates_wanted(const Batch& batch, const std::vector<SessionId>& members) {
  const int32_t count = std::min(kCandidates, model_->most_top_logits());
  if (count <= 0 || batch.logit_rows.size() != members.size() ||
      batch.logit_rows.size() > size_t(model_->options().head_rows))
    return 0;
  for (SessionId id : members) {
    const Session& s = session(id);
    if (s.on_logits != nullptr || s.is_prompt || s.generation == nullptr ||
        !s.generation->sampler.takes_top(count))
      return 0;
  }
  return count;
}

Expected<void> Engine::step() {
  for (auto& pointer : sessions_) {  // sample where the logits are known
    if (pointer == nullptr || pointer->generation == nullptr || !pointer->pending.empty()) continue;
    Session& s = *pointer;
    if (s.generation->options.max_tokens == 0) {
      finish(s, FinishReason::kLength, -1, nullptr);
      continue;
    }
    auto sampled = sample(s);
    if (!sampled) return sampled.error();
    emit(s, *sampled);
  }
  for (auto& pointer : sessions_)  // who goes on later needs the logits that the next pass will overwrite
    if (pointer != nullptr && pointer->pending.empty()) read_logits(*pointer);
  std::vector<SessionId> members;
  const Batch batch = form_batch(members);
  if (batch.tokens.empty()) return {};

  std::vector<SessionId> owner_of_row;  // of each logit row
  std::vector<int32_t> index_of_row;
  size_t span = 0;
  for (int32_t row : batch.logit_rows) {
    while (row >= batch.spans[span].first_row + batch.spans[span].row_count) ++span;
    owner_of_row.push_back(members[span]);
    index_of_row.push_back(batch.spans[span].position + row - batch.spans[span].first_row);
  }
  const auto start = std::chrono::steady_clock::now();
  if (const int32_t count = candidates_wanted(batch, members); count > 0) {
    model_->forward_top(batch, *state_, count, [&](size_t i, const TopLogits& top) {
      Session& s = session(owner_of_row[i]);
      s.logits.clear();
      s.top_ids.assign(top.ids.begin(), top.ids.end());
      s.top_values.assign(top.logits.begin(), top.logits.end());
      s.top_maximum = top.largest;
      s.top_sum = top.sum;
      s.top_row = i;
    });
    return deliver(batch, members, seconds_since(start));
  }
  for (SessionId id : members) session(id).top_ids.clear();
  model_->forward(batch, *state_, [&](size_t i, std::span<float> logits) {
    Session& s = session(owner_of_row[i]);
    if (s.on_logits != nullptr) s.on_logits(index_of_row[i], logits);
    s.logits.assign(logits.begin(), logits.end());
  });
  return deliver(batch, members, seconds_since(start));
}

Expected<void> Engine::deliver(const Batch& batch, const std::vector<SessionId>& members, double seconds) {
  for (size_t i = 0; i < members.size(); ++i) {
    Session& s = session(members[i]);
    const auto count = batch.spans[i].row_count;
    s.tokens.insert(s.tokens.end(), s.pending.begin(), s.pending.begin() + count);
    s.pending.erase(s.pending.begin(), s.pending.begin() + count);
    (s.is_prompt ? s.times.prompt_seconds : s.times.generation_seconds) += seconds;
    if (!s.pending.empty()) {
      s.logits.clear();
      s.top_ids.clear();
      continue;
    }
    s.on_logits = nullptr;
    if (s.is_prompt) take_checkpoint(s);
    s.is_prompt = false;
  }
  return {};
}

void Engine::emit(Session& s, const Sampled& sampled) {
  Generation& g = *s.generation;
  const int32_t token = sampled.token;
  if (tokenizer_->is_end_of_generation(token) && !g.options.ignore_end) {
    finish(s, FinishReason::kEndOfText, token, &sampled);
    return;
  }
  g.sampler.accept(token);
  ++g.produced;
  ++s.times.generated_tokens;
  std::string text;
  const auto piece = g.detokenizer.append(token);
  DW_CHECK(piece.has_value(), "sampled tokens are in the vocabulary");
  if (g.stops.push(*piece, text)) {
    Generated out{token, text, &sampled, FinishReason::kStopString};
    g.on_generated(out);
    s.generation.reset();
    return;
  }
  const bool length = g.options.max_tokens >= 0 && g.produced >= g.options.max_tokens;
  const bool context = int64_t(s.tokens.size()) + 1 > context_tokens_ - 1;
  Generated out{token, text, &sampled, FinishReason::kNone};
  if (!g.on_generated(out)) return finish(s, FinishReason::kCancelled, -1, nullptr);
  if (length || context)
    return finish(s, length ? FinishReason::kLength : FinishReason::kContext, -1, nullptr);
  s.pending.assign(1, token);
}

void Engine::finish(Session& s, FinishReason reason, int32_t token, const Sampled* sampled) {
  Generation& g = *s.generation;
  std::string text;
  if (!g.stops.push(g.detokenizer.flush(), text)) g.stops.flush(text);
  Generated out{token, text, sampled, reason};
  g.on_generated(out);
  s.generation.reset();
}

Engine::Snapshot Engine::snapshot(SessionId id) {
  Session& s = session(id);
  read_logits(s);
  Snapshot result;
  result.state.resize(state_->snapshot_bytes());
  state_->save_slot(s.slot, result.state.data());
  result.tokens = s.tokens;
  result.logits = s.logits;
  return result;
}

Expected<void> Engine::restore(SessionId id, const Snapshot& snapshot) {
  Session& s = session(id);
  DW_CHECK(s.generation == nullptr && s.pending.empty(), "the session is busy");
  if (snapshot.state.size() != state_->snapshot_bytes())
    return make_error("the snapshot is of another model");
  if (snapshot.tokens.size() > s.tokens.size() ||
      !std::equal(snapshot.tokens.begin(), snapshot.tokens.end(), s.tokens.begin()))
    return make_error("the snapshot is not of an earlier point of this session");
  state_->load_slot(s.slot, snapshot.state.data());
  drop_after(s, int64_t(snapshot.tokens.size()));
  s.logits = snapshot.logits;
  return {};
}

}  // namespace dw
