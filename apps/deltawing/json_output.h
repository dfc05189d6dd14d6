// The JSON that commands print; the JSON library stays behind this header.
#pragma once

#include <string>
#include <vector>

#include "chat_prompt.h"
#include "engine/engine.h"
#include "engine/evaluate.h"
#include "machine.h"
#include "profile/analysis/kernel_table.h"

namespace dw {

// {"text", "finish_reason", "prompt_tokens", ..., "logprobs": [{"token", "id", "logprob", "top": [...]}]}
std::string run_result_json(const Engine& engine, const std::string& text,
                            const std::vector<Sampled>& samples, FinishReason reason,
                            const SessionTimes& times);

struct BenchRow {
  std::string test;  // "pp512", "tg128 @ d4096"
  int repetitions = 0;
  double tokens_per_second = 0, deviation = 0;
  double gigabytes_per_second = 0, bandwidth_share = 0;  // of the measured read bandwidth, 0..1
  double gigaflops = 0;
};
// A test under a trace of the GPU's kernels.
struct KernelReport {
  std::string test;
  std::string source;                               // "CUPTI 130001 (libcupti.so.13)"
  int32_t tokens = 0;                               // that the table's sums are divided by
  double traced_seconds = 0, untraced_seconds = 0;  // of one repetition
  uint64_t dropped = 0;                             // records that the trace lost
  profile::KernelTable table;
};
struct BenchReport {
  std::string model, types, device;
  double parameter_bytes = 0, read_bandwidth = 0;
  std::vector<BenchRow> rows;
  std::vector<KernelReport> kernels;  // with --kernels: one a row
};
std::string bench_json(const BenchReport& report);

std::string evaluation_json(const Evaluation& e, const std::string& model);

// {"messages": [{"role", "content", "reasoning_content"}]}, the form of the OpenAI API.
std::string conversation_json(const std::vector<ChatMessage>& messages);
// Errors: no JSON, another form; the sentence names the message. An array of messages alone is read too.
Expected<std::vector<ChatMessage>> parse_conversation(const std::string& text);

// [{"name", "family", "category", "short_name", "words", "details": [{"key", "value", "meaning"}]}]
// of profile::describe(). Bytes of a name that are not UTF-8 become U+FFFD.
std::string kernel_names_json(const std::vector<std::string>& names);

std::string doctor_json(const DoctorReport& report);

}  // namespace dw
