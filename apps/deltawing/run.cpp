#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "chat_prompt.h"
#include "commands.h"
#include "console.h"
#include "flags.h"
#include "json_output.h"

namespace dw {
namespace {

struct RunFlags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string prompt, prompt_file, system, template_file;
  int32_t max_tokens = -1;
  std::vector<std::string> stops;
  bool raw = false, json = false, ignore_eos = false, special = false, quiet = false;
};

Expected<std::string> prompt_text(const RunFlags& flags) {
  if (!flags.prompt_file.empty() && !flags.prompt.empty())
    return make_error("give either -p or -f, not both");
  if (!flags.prompt_file.empty()) return read_file(flags.prompt_file);
  if (!flags.prompt.empty()) return flags.prompt;
  if (!stdin_is_terminal()) return read_standard_input();
  return make_error("there is no prompt: give one with -p TEXT or -f FILE, or pipe it in");
}

struct Answer {
  std::string text;
  std::vector<Sampled> samples;
  FinishReason reason = FinishReason::kNone;
};

void print_footer(const SessionTimes& t) {
  const bool dim = use_colour_on_stderr();
  std::fprintf(
      stderr, "\n%s%s%s\n", dim ? "\x1b[2m" : "",
      rate_footer(double(t.prompt_tokens), t.prompt_seconds, double(t.generated_tokens), t.generation_seconds)
          .c_str(),
      dim ? "\x1b[0m" : "");
}

Expected<Answer> answer_prompt(Engine& engine, const RunFlags& flags, const std::vector<int32_t>& tokens,
                               SessionId session) {
  GenerateOptions options;
  auto sampling = flags.sampling.resolved();
  if (!sampling) return sampling.error();
  options.sampling = *sampling;
  options.max_tokens = flags.max_tokens;
  options.stops = flags.stops;
  options.ignore_end = flags.ignore_eos;
  options.show_special = flags.special;
  if (auto set = engine.set_prompt(session, tokens); !set) return set.error();
  Answer answer;
  const bool print = !flags.json;
  auto started = engine.generate(session, options, [&](const Generated& g) {
    answer.text += g.text;
    if (g.sampled != nullptr && g.sampled->alternatives.size() > 0) answer.samples.push_back(*g.sampled);
    answer.reason = g.finish;
    if (print) {
      std::fwrite(g.text.data(), 1, g.text.size(), stdout);
      std::fflush(stdout);
    }
    return true;
  });
  if (!started) return started.error();
  InterruptGuard guard;
  while (engine.has_work()) {
    if (InterruptGuard::interrupted())
      engine.cancel(session);
    else if (auto done = engine.step(); !done)
      return done.error();
  }
  return answer;
}

// The exit status.
Expected<int> run(const RunFlags& flags) {
  auto text = prompt_text(flags);
  if (!text) return text.error();
  if (text->empty()) return make_error("the prompt is empty: there is nothing to continue");
  auto options = flags.model.options();
  if (!options) return options.error();
  auto engine = create_engine(*options);
  if (!engine) return engine.error();
  ChatPrompt chat;
  if (auto loaded = chat.load(**engine, flags.template_file); !loaded) return loaded.error();
  auto tokens = flags.raw || !chat.has_template() ? chat.encode_plain(*text, flags.system)
                                                  : chat.encode_single(*text, flags.system);
  if (!tokens) return tokens.error();
  auto session = (*engine)->open_session();
  if (!session) return session.error();
  auto answer = answer_prompt(**engine, flags, *tokens, *session);
  if (!answer) return answer.error();
  const SessionTimes& times = (*engine)->times(*session);
  if (flags.json) {
    std::puts(run_result_json(**engine, answer->text, answer->samples, answer->reason, times).c_str());
  } else {
    std::fputs("\n", stdout);
    if (!flags.quiet) print_footer(times);
  }
  if (answer->reason == FinishReason::kContext)
    std::fprintf(stderr, "deltawing: the context of %d tokens is full; give more with -c\n",
                 (*engine)->context_tokens());
  return answer->reason == FinishReason::kCancelled ? kInterruptedStatus : 0;
}

}  // namespace

void add_run_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Answer one prompt and stop");
  command->footer(
      "Examples:\n"
      "  deltawing run -m model.gguf -p \"Once upon a time\" -n 100\n"
      "  deltawing run -m model.gguf -f question.txt --temp 0 --json\n"
      "  echo 'Summarise: ...' | deltawing run -m model.gguf -sys 'You are brief.'\n"
      "Ctrl+C stops it with what was said so far; the exit status is then 130.");
  flags->model.add_to(*command);
  flags->sampling.add_to(*command);
  command->add_option("-p,--prompt", flags->prompt, "the prompt");
  command->add_option("-f,--file", flags->prompt_file, "read the prompt from a file (-: standard input)");
  add_prompt_flags(*command, flags->system, flags->template_file, flags->max_tokens, flags->stops);
  command->add_option("--logprobs", flags->sampling.options.logprobs,
                      "alternatives to report a token (with --json)");
  command->add_flag("--raw", flags->raw, "continue the text as it is, without the chat template");
  command->add_flag("--ignore-eos", flags->ignore_eos, "go on after an end-of-text token");
  command->add_flag("--special", flags->special, "print special tokens");
  command->add_flag("--json", flags->json,
                    "print one JSON object with the text, the reason it ended and timings");
  command->add_flag("-q,--quiet", flags->quiet, "no footer");
  command->callback([flags, &exit_status] {
    auto status = run(*flags);
    exit_status = status ? *status : report_error(status.error());
  });
}

}  // namespace dw
