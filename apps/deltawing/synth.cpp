#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "model/synth.h"

namespace dw {
namespace {

struct SynthFlags {
  std::string output, preset = "tiny", types = "Q4_K_M", vocabulary_file;
  std::vector<std::string> overrides;
  int32_t layers = 0, experts = 0, active = 0, hidden = 0, vocabulary = 0, threads = 0;
  uint64_t seed = 1;
  bool mtp = false, tied = false, quiet = false;
};

Expected<HyperParameters> shape_of(const SynthFlags& flags) {
  auto shape = find_synth_preset(flags.preset);
  if (!shape) return shape;
  if (flags.layers > 0) set_layer_count(*shape, flags.layers);
  if (flags.experts > 0) {
    shape->expert_count = flags.experts;
    shape->top_k = std::min(shape->top_k, flags.experts);
  }
  if (flags.active > 0) shape->top_k = flags.active;
  if (flags.hidden > 0) shape->hidden = flags.hidden;
  if (flags.vocabulary > 0) shape->vocabulary = flags.vocabulary;
  shape->mtp_layers = flags.mtp ? 1 : 0;
  return shape;
}

Expected<void> synth(const SynthFlags& flags) {
  auto shape = shape_of(flags);
  if (!shape) return shape.error();
  SynthOptions options;
  options.shape = *shape;
  options.name = "Synthetic " + flags.preset;
  options.types = flags.types;
  options.seed = flags.seed;
  options.threads = flags.threads;
  options.tied = flags.tied;
  for (const std::string& text : flags.overrides) {
    auto override = parse_type_override(text);
    if (!override) return override.error();
    options.overrides.push_back(std::move(*override));
  }
  gguf::File vocabulary;
  if (!flags.vocabulary_file.empty()) {
    auto file = gguf::File::open(flags.vocabulary_file, {.header_only = true});
    if (!file) return file.error();
    vocabulary = std::move(*file);
    options.vocabulary = &vocabulary;
  }
  ProgressLine progress;
  InterruptGuard guard;
  options.progress = [&](uint64_t done, uint64_t total) { progress.update("Writing", done, total); };
  options.interrupted = [] { return InterruptGuard::interrupted(); };
  auto report = synthesize(flags.output, options);
  progress.clear();
  if (!report) return report.error();
  if (!flags.quiet)
    std::printf("%s: %s, %s parameters, %s, %.3f bits a weight\n", flags.output.c_str(),
                std::string(report->file_type).c_str(), format_count(report->parameter_count).c_str(),
                format_bytes(report->file_bytes).c_str(), report->bits_per_weight);
  return {};
}

}  // namespace

void add_synth_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command =
      app.add_subcommand("synth", "Write a model of random weights, for benchmarks and tests");
  std::string footer = "Presets:\n";
  for (const SynthPreset& preset : synth_presets())
    footer += "  " + std::string(preset.name) + ": " + std::string(preset.description) + "\n";
  footer +=
      "Examples:\n"
      "  deltawing synth 80b.gguf --preset 80b --types Q4_K_M\n"
      "  deltawing synth small.gguf --preset 80b --layers 4 --types Q2_K";
  command->footer(footer);
  command->add_option("output", flags->output, "the GGUF file to write")->required();
  command->add_option("--preset", flags->preset, "the shape of the model")->capture_default_str();
  command
      ->add_option("--types", flags->types,
                   "a file type (Q4_K_M, Q2_K, Q8_0, F16, IQ4_XS, ...) or a size (4.5bit)")
      ->capture_default_str();
  command->add_option("--tensor-type", flags->overrides,
                      "PATTERN=TYPE: another type for some tensors (repeatable)");
  const CLI::Range positive(1, 1 << 24);
  command->add_option("--layers", flags->layers, "layers of the trunk")->check(CLI::Range(1, 4096));
  command->add_option("--experts", flags->experts, "routed experts")->check(positive);
  command->add_option("--experts-used", flags->active, "experts active for a token")->check(positive);
  command->add_option("--hidden", flags->hidden, "hidden size")->check(positive);
  command->add_option("--vocab", flags->vocabulary, "tokens of the vocabulary")->check(positive);
  command->add_option("--vocab-from", flags->vocabulary_file, "take the tokenizer of this GGUF file");
  command->add_option("--seed", flags->seed, "the same seed gives the same file")->capture_default_str();
  command->add_option("-t,--threads", flags->threads, "threads; 0: one a core")->capture_default_str();
  command->add_flag("--mtp", flags->mtp, "add a multi-token-prediction block");
  command->add_flag("--tied", flags->tied, "no output matrix of its own");
  command->add_flag("-q,--quiet", flags->quiet, "print nothing");
  command->callback([flags, &exit_status] {
    if (auto done = synth(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
