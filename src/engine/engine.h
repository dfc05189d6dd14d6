// The engine: a model, its tokenizer and the sessions that share them. A session is one sequence: its tokens,
// its pages of KV cache and its slot of recurrent state. step() forms one ragged batch from all sessions with
// work (single tokens of those that generate, pieces of prompts of the others), runs it and hands out what
// was said. All memory is planned and allocated by create(). Not thread-safe: one thread drives an Engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cpu_device.h"
#include "backend/gpu_device.h"
#include "base/expected.h"
#include "engine/memory_plan.h"
#include "engine/placement_plan.h"
#include "engine/sampler.h"
#include "gguf/file.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace dw {

struct EngineOptions {
  std::string model_path;
  bool use_mmap = true;
  bool prefetch = false;  // ask the kernel to read the mapped file ahead, where memory can hold it
  // auto (the GPU where there is one, else the CPU), cpu, gpu, or reference (plain loops, for comparison)
  std::string device = "cpu";
  CpuOptions cpu;
  GpuOptions gpu;
  PlacementRequest placement;   // of a model on the GPU
  int32_t context_tokens = -1;  // of each session; 0: what the model was made for; -1: at most 4096 of that
  int32_t max_sessions = 1;
  int32_t batch_tokens = 512;  // rows of a forward pass
  int32_t delta_chunk = kDeviceChunk;
  ops::KvType kv_type = ops::KvType::kF16;
  int32_t checkpoints = 4;  // recurrent-state snapshots kept a session, for going back in a conversation
  std::function<void(const char* stage, uint64_t done, uint64_t total)> progress;
};

enum class FinishReason { kNone, kEndOfText, kStopString, kLength, kContext, kCancelled };
std::string_view finish_reason_name(FinishReason reason);

struct GenerateOptions {
  SamplingOptions sampling;
  int32_t max_tokens = -1;  // -1: until the text ends or the context is full
  std::vector<std::string> stops;
  bool ignore_end = false;    // go on after an end-of-text token
  bool show_special = false;  // print special tokens
};

// One step of a generation. text is whole UTF-8; it may be empty (bytes held back) or cover several tokens.
struct Generated {
  int32_t token = -1;  // -1 when only text that was held back comes out
  std::string_view text;
  const Sampled* sampled = nullptr;
  FinishReason finish = FinishReason::kNone;
};
// Returns false to cancel.
using OnGenerated = std::function<bool(const Generated&)>;

struct SessionTimes {
  int64_t prompt_tokens = 0, reused_tokens = 0, generated_tokens = 0;
  double prompt_seconds = 0, generation_seconds = 0;
};

using SessionId = int32_t;

// The context that `options` mean for a model. Error: longer than the model was made for.
Expected<int32_t> resolve_context(const EngineOptions& options, const HyperParameters& h);
// What plan_memory() needs to know of an engine with these options.
MemoryRequest memory_request(const EngineOptions& options, int32_t context_tokens);

class Engine {
 public:
  static Expected<std::unique_ptr<Engine>> create(const EngineOptions& options);
  ~Engine();

  const gguf::File& file() const { return *file_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  Device& device() { return *devices_[0]; }
  std::string device_description() const;
  // Empty when all of the model lies on one device.
  std::string placement_description() const;
  const Model& model() const { return *model_; }
  const MemoryPlan& plan() const { return plan_; }
  int32_t context_tokens() const { return context_tokens_; }
  const EngineOptions& options() const { return options_; }

  Expected<SessionId> open_session();
  void close_session(SessionId id);
  void clear(SessionId id);  // forgets everything the session was told

  // Makes `tokens` the text of the session: keeps what is already there as far as it agrees (going back to a
  // checkpoint where it does not), queues the rest. Errors: empty, or longer than the context (both numbers
  // said).
  Expected<void> set_prompt(SessionId id, const std::vector<int32_t>& tokens);
  // Continues the session's text; the callback runs inside step().
  Expected<void> generate(SessionId id, const GenerateOptions& options, OnGenerated on_generated);
  // The logits after every queued token instead of generating: called with (index in the prompt, logits).
  Expected<void> score(SessionId id,
                       std::function<void(int32_t index, std::span<const float> logits)> on_logits);

  bool has_work() const;
  // Runs one batch. Errors: the model produced values that are not finite.
  Expected<void> step();
  Expected<void> run();  // step() until no session has work
  // Ends what the session is doing (its prompt, its generation) before the next step: what was run so far
  // stays its text. A generation gets FinishReason::kCancelled.
  void cancel(SessionId id);

  const std::vector<int32_t>& tokens(SessionId id) const;  // in the session's state
  const SessionTimes& times(SessionId id) const;

  // Exact copies of a session at its present position.
  struct Snapshot {
    std::vector<std::byte> state;
    std::vector<int32_t> tokens;
    std::vector<float> logits;  // after the last token; empty when not known
  };
  Snapshot snapshot(SessionId id);
  // Goes back to a snapshot of the same session (its tokens must be a prefix of the present ones).
  Expected<void> restore(SessionId id, const Snapshot& snapshot);

 private:
  struct Session;
  struct Generation;
  Engine() = default;
  Expected<void> load_file();
  Expected<void> plan_and_load_model();
  Expected<void> open_devices();
  bool uses_host_weights() const;
  Expected<void> place_model(const HyperParameters& h, const MemoryRequest& request);
  Expected<void> check_memory(const HyperParameters& h, const MemoryRequest& request);
  Session& session(SessionId id);
  const Session& session(SessionId id) const;
  bool grow_pages(Session& s, int64_t tokens);
  void drop_after(Session& s, int64_t position);
  void take_checkpoint(Session& s);
  Batch form_batch(std::vector<SessionId>& members);
  Expected<Sampled> sample(Session& s);
  void read_logits(Session& s);
  int32_t candidates_wanted(const Batch& batch, const std::vector<SessionId>& members);
  Expected<void> deliver(const Batch& batch, const std::vector<SessionId>& members, double seconds);
  void emit(Session& s, const Sampled& sampled);
  void finish(Session& s, FinishReason reason, int32_t token, const Sampled* sampled);

  EngineOptions options_;
  std::unique_ptr<gguf::File> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<std::unique_ptr<Device>> devices_;  // the GPU first
  Placement placement_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StateStore> state_;
  MemoryPlan plan_;
  int32_t context_tokens_ = 0;
  std::vector<std::unique_ptr<Session>> sessions_;  // by id; null: free
  std::vector<int32_t> free_pages_;
  std::vector<float> logits_;
};

}  // namespace dw
