#include "json_output.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "profile/names/kernel_name.h"

namespace dw {
namespace {

using Value = nlohmann::ordered_json;

std::string dump(const Value& json) {
  return json.dump(2, ' ', false, Value::error_handler_t::replace);
}

double rate(int64_t tokens, double seconds) {
  return seconds > 0 ? double(tokens) / seconds : 0;
}

Value token_json(const Engine& engine, int32_t token, float logprob) {
  return {{"token", std::string(engine.tokenizer().token_bytes(token))}, {"id", token}, {"logprob", logprob}};
}

}  // namespace

std::string run_result_json(const Engine& engine, const std::string& text,
                            const std::vector<Sampled>& samples, FinishReason reason, const SessionTimes& t) {
  Value json = {{"text", text},
                {"finish_reason", finish_reason_name(reason)},
                {"prompt_tokens", t.prompt_tokens},
                {"generated_tokens", t.generated_tokens},
                {"prompt_seconds", t.prompt_seconds},
                {"generation_seconds", t.generation_seconds},
                {"prompt_tokens_per_second", rate(t.prompt_tokens, t.prompt_seconds)},
                {"generation_tokens_per_second", rate(t.generated_tokens, t.generation_seconds)}};
  if (!samples.empty()) {
    Value list = Value::array();
    for (const Sampled& s : samples) {
      Value entry = token_json(engine, s.token, s.logprob);
      entry["top"] = Value::array();
      for (const TokenProbability& p : s.alternatives)
        entry["top"].push_back(token_json(engine, p.token, p.logprob));
      list.push_back(std::move(entry));
    }
    json["logprobs"] = std::move(list);
  }
  return dump(json);
}

namespace {

Value kernel_row_json(const profile::KernelRow& row, const KernelReport& report, double bandwidth) {
  const double gigabytes = row.gigabytes_per_second();
  return {{"name", row.name},
          {"launches_per_token", double(row.launches) / report.tokens},
          {"us_per_token", double(row.time_ns) / 1e3 / report.tokens},
          {"share", report.table.span_ns > 0 ? double(row.time_ns) / double(report.table.span_ns) : 0},
          {"gigabytes_per_second", gigabytes},
          {"bandwidth_share", bandwidth > 0 ? gigabytes * 1e9 / bandwidth : 0},
          {"teraflops", row.teraflops()},
          {"idle_before_us_per_token", double(row.gap_ns) / 1e3 / report.tokens}};
}

Value kernels_json(const KernelReport& report, double bandwidth) {
  const profile::KernelTable& table = report.table;
  Value json = {{"source", report.source},
                {"tokens", report.tokens},
                {"traced_seconds", report.traced_seconds},
                {"untraced_seconds", report.untraced_seconds},
                {"dropped_records", report.dropped},
                {"kernels", table.kernel_count},
                {"kernels_not_annotated", table.unknown_kernels},
                {"launches_not_traced", table.missing_kernels},
                {"span_ns", table.span_ns},
                {"busy_ns", table.busy_ns},
                {"idle_ns", table.idle_ns},
                {"idle_in_graphs_ns", table.graph_idle_ns},
                {"ops", Value::array()}};
  for (const profile::OpRow& op : table.ops) {
    Value entry = kernel_row_json(op.total, report, bandwidth);
    entry["kernels"] = Value::array();
    for (const profile::KernelRow& kernel : op.kernels) {
      entry["kernels"].push_back(kernel_row_json(kernel, report, bandwidth));
      entry["kernels"].back()["full_name"] = kernel.kernel;
    }
    json["ops"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace

std::string bench_json(const BenchReport& report) {
  Value json = {{"model", report.model},
                {"types", report.types},
                {"device", report.device},
                {"parameter_bytes", report.parameter_bytes},
                {"read_bandwidth_gbs", report.read_bandwidth / 1e9},
                {"tests", Value::array()}};
  for (const BenchRow& row : report.rows)
    json["tests"].push_back({{"test", row.test},
                             {"repetitions", row.repetitions},
                             {"tokens_per_second", row.tokens_per_second},
                             {"deviation", row.deviation},
                             {"gigabytes_per_second", row.gigabytes_per_second},
                             {"bandwidth_share", row.bandwidth_share},
                             {"gigaflops", row.gigaflops}});
  for (size_t i = 0; i < report.kernels.size(); ++i)
    json["tests"][i]["kernels"] = kernels_json(report.kernels[i], report.read_bandwidth);
  return dump(json);
}

std::string evaluation_json(const Evaluation& e, const std::string& model) {
  Value json = {{"model", model},
                {"tokens", e.tokens},
                {"bytes", e.bytes},
                {"perplexity", e.perplexity()},
                {"nll", e.nll},
                {"nll_error", e.nll_error},
                {"bits_per_byte", e.bits_per_byte()},
                {"top1", e.top1},
                {"seconds", e.seconds}};
  if (e.compared)
    json["against"] = {{"kl_mean", e.kl_mean},     {"kl_median", e.kl_median},
                       {"kl_p99", e.kl_p99},       {"kl_max", e.kl_max},
                       {"same_top1", e.same_top1}, {"base_perplexity", std::exp(e.base_nll)}};
  return dump(json);
}

std::string conversation_json(const std::vector<ChatMessage>& messages) {
  Value list = Value::array();
  for (const ChatMessage& m : messages) {
    Value entry = {{"role", m.role}, {"content", m.content}};
    if (!m.reasoning.empty()) entry["reasoning_content"] = m.reasoning;
    list.push_back(std::move(entry));
  }
  return dump({{"messages", std::move(list)}});
}

Expected<std::vector<ChatMessage>> parse_conversation(const std::string& text) {
  const Value json = Value::parse(text, nullptr, false);
  if (json.is_discarded()) return make_error("this is no JSON");
  const Value* list = &json;
  if (json.is_object() && json.contains("messages")) list = &json["messages"];
  if (!list->is_array()) return make_error("there is no array of messages");
  std::vector<ChatMessage> messages;
  for (const Value& entry : *list) {
    const std::string place = "message " + std::to_string(messages.size() + 1);
    auto text_of = [&](const char* key) -> Expected<std::string> {
      if (!entry.is_object() || !entry.contains(key) || !entry[key].is_string())
        return make_error(place, " has no text under \"", key, "\"");
      return entry[key].get<std::string>();
    };
    auto role = text_of("role");
    if (!role) return role.error();
    if (*role != "system" && *role != "user" && *role != "assistant")
      return make_error(place, " has the role '", *role, "'; use system, user or assistant");
    auto content = text_of("content");
    if (!content) return content.error();
    ChatMessage message{std::move(*role), std::move(*content), {}};
    if (entry.contains("reasoning_content") && entry["reasoning_content"].is_string())
      message.reasoning = entry["reasoning_content"].get<std::string>();
    messages.push_back(std::move(message));
  }
  return messages;
}

namespace {

Value gpus_json(const MachineReport& m) {
  Value gpus = Value::array();
  for (const GpuInfo& gpu : m.gpus)
    gpus.push_back({{"name", gpu.name},
                    {"architecture", gpu.architecture},
                    {"multiprocessors", gpu.multiprocessors},
                    {"memory_bytes", gpu.total_bytes}});
  return gpus;
}

Value machine_json(const MachineReport& m) {
  const std::string backend = gpu_backend_name();
  return {{"processor", m.processor},
          {"level", m.level},
          {"cores", m.cores},
          {"logical_processors", m.logical_processors},
          {"numa_nodes", m.numa_nodes},
          {"memory_bytes", m.memory.total_bytes},
          {"free_memory_bytes", m.memory.free_bytes},
          {"memory_limit_bytes", m.memory_limit_bytes},
          {"swap_bytes", m.swap_bytes},
          {"read_bandwidth_gbs", m.read_bandwidth / 1e9},
          {"huge_pages", m.huge_pages},
          {"address_space_limit_bytes", m.address_space_limit},
          {"locked_memory_limit_bytes", m.locked_memory_limit},
          {"system", m.kernel},
          {"gpu_backend", backend.empty() ? Value() : Value(backend)},
          {"gpus", gpus_json(m)},
          {"gpu_problem", m.gpu_problem.empty() ? Value() : Value(m.gpu_problem)}};
}

Value model_json(const ModelReport& model) {
  Value parts = Value::array();
  for (const auto& part : model.plan.parts)
    parts.push_back({{"name", part.name}, {"bytes", part.bytes}, {"mapped", part.mapped}});
  return {{"path", model.path},
          {"name", model.name},
          {"fits", model.refusal.empty()},
          {"refusal", model.refusal},
          {"context_tokens", model.context_tokens},
          {"parts", std::move(parts)},
          {"resident_bytes", model.plan.resident_bytes()},
          {"mapped_bytes", model.plan.mapped_bytes()},
          {"bytes_per_token", model.bytes_per_token},
          {"tokens_per_second", model.tokens_per_second}};
}

}  // namespace

std::string kernel_names_json(const std::vector<std::string>& names) {
  Value list = Value::array();
  for (const std::string& raw : names) {
    const profile::KernelName name = profile::describe(raw);
    Value details = Value::array();
    for (const auto& detail : name.details)
      details.push_back({{"key", detail.key}, {"value", detail.value}, {"meaning", detail.meaning}});
    list.push_back({{"name", raw},
                    {"family", std::string(name.family)},
                    {"category", std::string(category_name(name.category))},
                    {"short_name", name.short_name},
                    {"words", name.words},
                    {"details", std::move(details)}});
  }
  return dump(list);
}

std::string doctor_json(const DoctorReport& report) {
  Value json = {{"machine", machine_json(report.machine)}};
  if (report.has_model) json["model"] = model_json(report.model);
  json["warnings"] = report.warnings;
  return dump(json);
}

}  // namespace dw
