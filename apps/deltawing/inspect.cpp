#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "model/summary.h"

namespace dw {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kTemplateLines = 3;  // shown without --template

struct InspectFlags {
  std::string path;
  bool tensors = false, json = false, whole_template = false;
};

// Text of the file without control characters that could command the terminal.
std::string printable(std::string_view text, bool keep_lines = false) {
  std::string out;
  for (const char c : text) {
    const bool line = keep_lines && (c == '\n' || c == '\t');
    out += (uint8_t(c) < 0x20 || c == 0x7f) && !line ? '?' : c;
  }
  return out;
}

std::string shape_text(const gguf::TensorInfo& tensor) {
  std::string text;
  for (uint32_t d = 0; d < tensor.dimension_count; ++d)
    text += (d > 0 ? " x " : "") + std::to_string(tensor.shape[d]);
  return text;
}

using Row = std::pair<const char*, int64_t>;
std::vector<Row> shape_rows(const HyperParameters& h) {
  return {{"layers", h.layer_count()},
          {"attention_layers", h.attention_layer_count()},
          {"delta_layers", h.recurrent_layer_count()},
          {"mtp_layers", h.mtp_layers},
          {"hidden", h.hidden},
          {"vocabulary", h.vocabulary},
          {"context_length", h.context_length},
          {"heads", h.heads},
          {"kv_heads", h.kv_heads},
          {"head_dim", h.head_dim},
          {"rope_dims", h.rope_dims},
          {"delta_k_heads", h.k_heads},
          {"delta_v_heads", h.v_heads},
          {"delta_k_dim", h.k_dim},
          {"delta_v_dim", h.v_dim},
          {"conv_taps", h.conv_taps},
          {"experts", h.expert_count},
          {"experts_active", h.top_k},
          {"expert_width", h.expert_width},
          {"shared_expert_width", h.shared_width}};
}

Json groups_json(const std::vector<SizeGroup>& groups) {
  Json list = Json::array();
  for (const SizeGroup& g : groups)
    list.push_back({{"name", g.name},
                    {"tensors", g.tensor_count},
                    {"parameters", g.parameter_count},
                    {"bytes", g.bytes}});
  return list;
}

Json tensors_json(const gguf::File& file) {
  Json list = Json::array();
  for (const gguf::TensorInfo& t : file.tensors()) {
    Json shape = Json::array();
    for (uint32_t d = 0; d < t.dimension_count; ++d) shape.push_back(t.shape[d]);
    list.push_back({{"name", t.name},
                    {"type", quant::type_info(t.type).name},
                    {"shape", std::move(shape)},
                    {"bytes", t.size_bytes},
                    {"file", t.file_index},
                    {"offset", t.file_offset}});
  }
  return list;
}

void print_json(const gguf::File& file, const FileSummary& s, const InspectFlags& flags) {
  Json json = {{"architecture", s.architecture},
               {"name", s.name},
               {"file_type", s.file_type},
               {"gguf_version", s.version},
               {"alignment", s.alignment},
               {"files", s.paths},
               {"file_bytes", s.file_bytes},
               {"tensor_bytes", s.tensor_bytes},
               {"tensors", s.tensor_count},
               {"parameters", s.parameter_count},
               {"bits_per_weight", s.bits_per_weight}};
  if (s.shape) {
    Json& shape = json["hyper_parameters"] = Json::object();
    for (const auto& [name, value] : shape_rows(*s.shape)) shape[name] = value;
    shape["rope_base"] = s.shape->rope_base;
    shape["norm_eps"] = s.shape->norm_eps;
  }
  json["parts"] = groups_json(s.parts);
  json["types"] = groups_json(s.types);
  Json& tokenizer = json["tokenizer"] = {{"model", s.tokenizer.model},
                                         {"pre", s.tokenizer.pre},
                                         {"tokens", s.tokenizer.token_count},
                                         {"merges", s.tokenizer.merge_count}};
  for (const auto& [name, id] : s.tokenizer.special) tokenizer[name] = id;
  json["chat_template"] = s.tokenizer.chat_template ? Json(*s.tokenizer.chat_template) : Json(nullptr);
  json["warnings"] = s.warnings;
  if (flags.tensors) json["tensor_list"] = tensors_json(file);
  std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print_groups(const char* title, const std::vector<SizeGroup>& groups, uint64_t all_bytes) {
  std::printf("\n%-16s %8s %12s %12s %7s\n", title, "tensors", "parameters", "size", "share");
  for (const SizeGroup& g : groups)
    std::printf("%-16s %8llu %12s %12s %6.1f%%\n", g.name.c_str(),
                static_cast<unsigned long long>(g.tensor_count), format_count(g.parameter_count).c_str(),
                format_bytes(g.bytes).c_str(),
                all_bytes > 0 ? 100 * double(g.bytes) / double(all_bytes) : 0.0);
}

void print_tokenizer(const TokenizerSummary& t) {
  std::printf("\ntokenizer        %s, pre-tokenizer %s, %llu tokens, %llu merges\n",
              printable(t.model).c_str(), printable(t.pre).c_str(),
              static_cast<unsigned long long>(t.token_count), static_cast<unsigned long long>(t.merge_count));
  for (const auto& [name, id] : t.special)
    std::printf("  %-24s %llu\n", printable(name).c_str(), static_cast<unsigned long long>(id));
}

void print_template(const TokenizerSummary& t) {
  if (!t.chat_template) return;
  const std::string& text = *t.chat_template;
  size_t end = 0;
  for (int line = 0; line < kTemplateLines && end != std::string::npos; ++line)
    end = text.find('\n', end + (line > 0));
  const bool whole = end == std::string::npos;
  std::printf("\nchat template (%zu characters%s)\n%s\n", text.size(), whole ? "" : "; --template prints all",
              printable(text.substr(0, end), true).c_str());
}

void print_text(const gguf::File& file, const FileSummary& s, const InspectFlags& flags) {
  std::printf("%s\n", printable(s.name.empty() ? s.paths.front() : s.name).c_str());
  std::printf("architecture     %s\n", printable(s.architecture).c_str());
  std::printf("file type        %s (GGUF v%u, alignment %u, %zu file%s)\n", s.file_type.c_str(), s.version,
              s.alignment, s.paths.size(), s.paths.size() == 1 ? "" : "s");
  std::printf("parameters       %s in %llu tensors\n", format_count(s.parameter_count).c_str(),
              static_cast<unsigned long long>(s.tensor_count));
  std::printf("size             %s, %.3f bits a weight\n", format_bytes(s.file_bytes).c_str(),
              s.bits_per_weight);
  print_groups("part", s.parts, s.tensor_bytes);
  print_groups("type", s.types, s.tensor_bytes);
  if (s.shape) {
    std::printf("\n");
    for (const auto& [name, value] : shape_rows(*s.shape))
      std::printf("%-24s %lld\n", name, static_cast<long long>(value));
    std::printf("%-24s %g\n%-24s %g\n", "rope_base", double(s.shape->rope_base), "norm_eps",
                double(s.shape->norm_eps));
  }
  print_tokenizer(s.tokenizer);
  print_template(s.tokenizer);
  if (flags.tensors) {
    std::printf("\n");
    for (const gguf::TensorInfo& t : file.tensors())
      std::printf("%-44s %-8s %-24s %12s\n", printable(t.name).c_str(),
                  std::string(quant::type_info(t.type).name).c_str(), shape_text(t).c_str(),
                  format_bytes(t.size_bytes).c_str());
  }
  if (!s.warnings.empty()) std::printf("\n");
  for (const std::string& warning : s.warnings) std::printf("warning: %s\n", printable(warning).c_str());
}

Expected<void> inspect(const InspectFlags& flags) {
  auto file = gguf::File::open(flags.path, {.header_only = true});
  if (!file) return file.error();
  const FileSummary summary = summarize(*file);
  if (flags.whole_template) {
    if (!summary.tokenizer.chat_template) return make_error(flags.path, " has no chat template");
    std::fputs(summary.tokenizer.chat_template->c_str(), stdout);
  } else if (flags.json) {
    print_json(*file, summary, flags);
  } else {
    print_text(*file, summary, flags);
  }
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a GGUF file");
  command->footer("Example:\n  deltawing inspect model.gguf --tensors");
  command->add_option("file", flags->path, "the GGUF file (any part of a split set)")->required();
  command->add_flag("--tensors", flags->tensors, "list every tensor");
  command->add_flag("--json", flags->json, "print JSON");
  command->add_flag("--template", flags->whole_template, "print the chat template and nothing else");
  command->callback([flags, &exit_status] {
    if (auto done = inspect(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
