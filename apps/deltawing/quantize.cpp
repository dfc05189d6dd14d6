#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "model/quantize.h"

namespace dw {
namespace {

struct QuantizeFlags {
  std::string input, output, type;
  std::vector<std::string> overrides;
  int32_t threads = 0;
  bool pure = false, allow_requantize = false, verbose = false, quiet = false;
};

Expected<QuantizeOptions> options_of(const QuantizeFlags& flags) {
  QuantizeOptions options;
  const FileType* type = find_file_type(flags.type);
  if (type == nullptr) {
    std::string known;
    for (const FileType& candidate : all_file_types()) known += " " + std::string(candidate.name);
    return make_error("the file type '", flags.type, "' is unknown; there are", known);
  }
  options.file_type = *type;
  options.pure = flags.pure;
  options.allow_requantize = flags.allow_requantize;
  options.threads = flags.threads;
  for (const std::string& text : flags.overrides) {
    auto override = parse_type_override(text);
    if (!override) return override.error();
    options.overrides.push_back(std::move(*override));
  }
  return options;
}

void print_report(const QuantizeFlags& flags, const QuantizeReport& report) {
  for (const QuantizedTensor& t : report.tensors) {
    const std::string from(quant::type_info(t.source).name), to(quant::type_info(t.type).name);
    if (flags.verbose)
      std::printf("%-40s %8s -> %-8s %12s\n", t.name.c_str(), from.c_str(), to.c_str(),
                  format_bytes(t.size_bytes).c_str());
    if (!t.note.empty()) std::fprintf(stderr, "note: %s: %s\n", t.name.c_str(), t.note.c_str());
  }
  std::printf("%s: %s -> %s, %.3f bits a weight\n", flags.output.c_str(),
              format_bytes(report.source_bytes).c_str(), format_bytes(report.file_bytes).c_str(),
              report.bits_per_weight);
}

Expected<void> quantize(const QuantizeFlags& flags) {
  auto options = options_of(flags);
  if (!options) return options.error();
  auto input = gguf::File::open(flags.input);
  if (!input) return input.error();
  ProgressLine progress;
  InterruptGuard guard;
  options->progress = [&](uint64_t done, uint64_t total) { progress.update("Quantising", done, total); };
  options->interrupted = [] { return InterruptGuard::interrupted(); };
  auto report = quantize_file(*input, flags.output, *options);
  progress.clear();
  if (!report) return report.error();
  if (!flags.quiet) print_report(flags, *report);
  return {};
}

}  // namespace

void add_quantize_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* command = app.add_subcommand("quantize", "Make a smaller file of a model");
  command->footer(
      "Examples:\n"
      "  deltawing quantize model-f16.gguf model-q4.gguf --type Q4_K_M\n"
      "  deltawing quantize model-bf16.gguf small.gguf --type Q2_K --tensor-type 'ffn_down_exps=Q4_K'");
  command->add_option("input", flags->input, "the GGUF file to read (any part of a split set)")->required();
  command->add_option("output", flags->output, "the GGUF file to write")->required();
  command
      ->add_option("--type", flags->type,
                   "Q4_K_M, Q2_K, Q3_K_M, Q5_K_M, Q6_K, Q8_0, IQ4_XS, IQ4_NL, MXFP4, F16, ...")
      ->required();
  command->add_option("--tensor-type", flags->overrides,
                      "PATTERN=TYPE: another type for the tensors whose name matches (repeatable)");
  command->add_option("-t,--threads", flags->threads, "threads; 0: one a core")->capture_default_str();
  command->add_flag("--pure", flags->pure, "the same type for every matrix, no mix");
  command->add_flag("--allow-requantize", flags->allow_requantize,
                    "accept an input of fewer than 8 bits a weight");
  command->add_flag("-v,--verbose", flags->verbose, "print every tensor");
  command->add_flag("-q,--quiet", flags->quiet, "print nothing");
  command->callback([flags, &exit_status] {
    if (auto done = quantize(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
