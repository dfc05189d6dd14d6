#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "engine/evaluate.h"
#include "flags.h"
#include "json_output.h"

namespace dw {
namespace {

struct EvalFlags {
  ModelFlags model;
  EvaluateOptions options;
  std::string file;
  bool json = false;
};

void print(const Evaluation& e) {
  std::printf("tokens         %lld (%lld bytes) in %s\n", static_cast<long long>(e.tokens),
              static_cast<long long>(e.bytes), format_seconds(e.seconds).c_str());
  std::printf("perplexity     %.4f +- %.4f\n", e.perplexity(), e.perplexity() * e.nll_error);
  std::printf("bits per byte  %.4f\n", e.bits_per_byte());
  std::printf("top-1          %.2f %%\n", 100 * e.top1);
  if (!e.compared) return;
  std::printf("against the stored run:\n");
  std::printf("  KL divergence  mean %.6f, median %.6f, 99 %% %.6f, max %.6f nats\n", e.kl_mean, e.kl_median,
              e.kl_p99, e.kl_max);
  std::printf("  same top-1     %.2f %%\n", 100 * e.same_top1);
  std::printf("  perplexity     %.4f (%+.3f %%)\n", std::exp(e.base_nll),
              100 * (std::exp(e.nll - e.base_nll) - 1));
}

Expected<void> eval(EvalFlags flags) {
  auto text = read_file(flags.file);
  if (!text) return text.error();
  auto options = flags.model.options();
  if (!options) return options.error();
  options->checkpoints = 0;
  options->context_tokens = flags.options.window;
  auto engine = create_engine(*options);
  if (!engine) return engine.error();
  auto tokens = (*engine)->tokenizer().encode(*text);
  if (!tokens) return tokens.error();
  auto session = (*engine)->open_session();
  if (!session) return session.error();
  flags.options.progress = [](int64_t done, int64_t total, double perplexity) {
    std::fprintf(stderr, "\reval: %lld of %lld tokens, perplexity %.4f", static_cast<long long>(done),
                 static_cast<long long>(total), perplexity);
    if (done >= total) std::fputc('\n', stderr);
    std::fflush(stderr);
  };
  auto result = evaluate(**engine, *session, *tokens, flags.options);
  if (!result) return result.error();
  if (flags.json)
    std::puts(evaluation_json(*result, flags.model.model).c_str());
  else
    print(*result);
  return {};
}

}  // namespace

void add_eval_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app.add_subcommand("eval", "Perplexity over a text; divergence from a stored run");
  command->footer(
      "Examples:\n"
      "  deltawing eval -m model.gguf -f book.txt\n"
      "  deltawing eval -m model-f16.gguf -f book.txt --save base.dwlp --tokens 4096\n"
      "  deltawing eval -m model-q4.gguf -f book.txt --against base.dwlp --tokens 4096 --json");
  flags->model.add_to(*command);
  command->add_option("-f,--file", flags->file, "the text (-: standard input)")->required();
  command->add_option("-w,--window", flags->options.window, "tokens scored from an empty state at a time")
      ->capture_default_str();
  command->add_option("--skip", flags->options.skip, "tokens at the start of a window that are not scored")
      ->capture_default_str();
  command->add_option("--tokens", flags->options.max_tokens, "use only the first tokens of the text; -1: all")
      ->capture_default_str();
  command->add_option("--save", flags->options.save_path,
                      "store the predictions (vocabulary x 4 bytes a token)");
  command->add_option("--against", flags->options.base_path, "compare with predictions stored before");
  command->add_flag("--json", flags->json, "print one JSON object");
  command->callback([flags, &exit_status] {
    if (auto done = eval(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
