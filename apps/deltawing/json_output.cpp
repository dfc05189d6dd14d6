#include "json_output.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace dw {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

double rate(int64_t tokens, double seconds) {
  return seconds > 0 ? double(tokens) / seconds : 0;
}

Json token_json(const Engine& engine, int32_t token, float logprob) {
  return {{"token", std::string(engine.tokenizer().token_bytes(token))}, {"id", token}, {"logprob", logprob}};
}

}  // namespace

std::string run_result_json(const Engine& engine, const std::string& text,
                            const std::vector<Sampled>& samples, FinishReason reason, const SessionTimes& t) {
  Json json = {{"text", text},
               {"finish_reason", finish_reason_name(reason)},
               {"prompt_tokens", t.prompt_tokens},
               {"generated_tokens", t.generated_tokens},
               {"prompt_seconds", t.prompt_seconds},
               {"generation_seconds", t.generation_seconds},
               {"prompt_tokens_per_second", rate(t.prompt_tokens, t.prompt_seconds)},
               {"generation_tokens_per_second", rate(t.generated_tokens, t.generation_seconds)}};
  if (!samples.empty()) {
    Json list = Json::array();
    for (const Sampled& s : samples) {
      Json entry = token_json(engine, s.token, s.logprob);
      entry["top"] = Json::array();
      for (const TokenProbability& p : s.alternatives)
        entry["top"].push_back(token_json(engine, p.token, p.logprob));
      list.push_back(std::move(entry));
    }
    json["logprobs"] = std::move(list);
  }
  return dump(json);
}

std::string bench_json(const BenchReport& report) {
  Json json = {{"model", report.model},
               {"types", report.types},
               {"device", report.device},
               {"parameter_bytes", report.parameter_bytes},
               {"read_bandwidth_gbs", report.read_bandwidth / 1e9},
               {"tests", Json::array()}};
  for (const BenchRow& row : report.rows)
    json["tests"].push_back({{"test", row.test},
                             {"repetitions", row.repetitions},
                             {"tokens_per_second", row.tokens_per_second},
                             {"deviation", row.deviation},
                             {"gigabytes_per_second", row.gigabytes_per_second},
                             {"bandwidth_share", row.bandwidth_share},
                             {"gigaflops", row.gigaflops}});
  return dump(json);
}

std::string evaluation_json(const Evaluation& e, const std::string& model) {
  Json json = {{"model", model},
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

}  // namespace dw
