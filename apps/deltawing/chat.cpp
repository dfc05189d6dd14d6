#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <memory>

#include "base/units.h"
#include "chat_session.h"
#include "commands.h"
#include "console.h"
#include "flags.h"
#include "line_reader.h"

namespace dw {
namespace {

struct ChatFlags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system, template_file, load_file;
  int32_t max_tokens = -1;
  std::vector<std::string> stops;
  bool think = false, no_think = false, quiet = false;
};

constexpr const char* kHelp =
    "/help            these lines\n"
    "/clear           a new conversation\n"
    "/regen           another answer to the last message\n"
    "/read FILE       put a file's text before the next message\n"
    "/set NAME VALUE  change a setting (/show lists them)\n"
    "/show            settings, context use, times, model\n"
    "/save FILE       write the conversation as JSON\n"
    "/load FILE       go on with a saved conversation\n"
    "/think /nothink  let the model reason before it answers, or not\n"
    "/quit            the end; so is Ctrl+D\n"
    "\"\"\" begins and ends a message of several lines; a line that ends with \\ goes on in the next.\n"
    "Ctrl+C stops an answer.\n";

// Streams an answer to standard output, its reasoning dim (at a terminal) or between <think> tags.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(bool colour) : colour_(colour) {}
  ~AnswerPrinter() {
    close();
    std::fputs("\n", stdout);
    std::fflush(stdout);
  }
  void print(std::string_view reasoning, std::string_view answer) {
    if (!reasoning.empty() && !open_) {
      std::fputs(colour_ ? "\x1b[2m" : "<think>\n", stdout);
      open_ = true;
    }
    std::fwrite(reasoning.data(), 1, reasoning.size(), stdout);
    if (!reasoning.empty()) ends_line_ = reasoning.back() == '\n';
    if (!answer.empty()) close();
    std::fwrite(answer.data(), 1, answer.size(), stdout);
    std::fflush(stdout);
  }

 private:
  void close() {
    if (!open_) return;
    open_ = false;
    if (!ends_line_) std::fputs("\n", stdout);
    std::fputs(colour_ ? "\x1b[0m\n" : "</think>\n\n", stdout);
  }
  bool colour_, open_ = false, ends_line_ = false;
};

class Repl {
 public:
  Repl(Engine& engine, SessionId id, ChatSession& session, bool quiet)
      : engine_(engine), id_(id), session_(session), quiet_(quiet) {}

  // Returns the exit status: at a terminal 0; with piped input 1 when a line failed.
  int run();

 private:
  bool read_message(std::string& text);  // false: the end
  bool read_block(std::string& text);
  void obey(const std::string& line);
  void turn(const std::function<Expected<FinishReason>(const ChatSession::OnText&)>& act);
  void attach(const std::string& path);
  void fail(const Error& error) {
    report_error(error);
    failed_ = true;
  }
  void note(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }
  void done_or_fail(const Expected<void>& result, const std::string& sentence) {
    result ? note(sentence) : fail(result.error());
  }

  Engine& engine_;
  SessionId id_;
  ChatSession& session_;
  LineReader reader_;
  std::string attached_;
  bool quiet_, quit_ = false, failed_ = false;
};

// The lines after """ up to the next """; false: Ctrl+C or the end of the input.
bool Repl::read_block(std::string& text) {
  text.erase(0, 3);
  for (;;) {
    const size_t end = text.find("\"\"\"");
    if (end != std::string::npos) {
      text.erase(end);
      return true;
    }
    std::string line;
    const auto result = reader_.read("... ", line);
    if (result == LineReader::Result::kEnd && !stdin_is_terminal()) return true;
    if (result != LineReader::Result::kLine) return false;
    if (!text.empty()) text += '\n';
    text += line;
  }
}

bool Repl::read_message(std::string& text) {
  for (int interrupts = 0;;) {
    const auto result = reader_.read("> ", text);
    if (result == LineReader::Result::kEnd) return false;
    if (result == LineReader::Result::kInterrupted) {
      if (++interrupts == 2) return false;
      note("(Ctrl+C again, or Ctrl+D, quits)");
      continue;
    }
    interrupts = 0;
    if (text.starts_with("\"\"\"")) {
      if (!read_block(text)) continue;
    } else {
      std::string more;
      while (!text.empty() && text.back() == '\\') {
        text.back() = '\n';
        if (reader_.read("... ", more) != LineReader::Result::kLine) break;
        text += more;
      }
    }
    if (text.find_first_not_of(" \t\n") == std::string::npos) continue;
    reader_.add_to_history(text);
    return true;
  }
}

void Repl::turn(const std::function<Expected<FinishReason>(const ChatSession::OnText&)>& act) {
  Expected<FinishReason> reason = FinishReason::kNone;
  {
    AnswerPrinter printer(use_colour());
    reason =
        act([&](std::string_view reasoning, std::string_view answer) { printer.print(reasoning, answer); });
  }
  if (!reason) return fail(reason.error());
  if (*reason == FinishReason::kContext)
    note("deltawing: the context of " + std::to_string(engine_.context_tokens()) +
         " tokens is full; /clear starts a new conversation");
  if (quiet_) return;
  const SessionTimes& t = engine_.times(id_);
  const bool dim = use_colour_on_stderr();
  std::fprintf(
      stderr, "%s%s%s\n", dim ? "\x1b[2m" : "",
      rate_footer(double(t.prompt_tokens), t.prompt_seconds, double(t.generated_tokens), t.generation_seconds)
          .c_str(),
      dim ? "\x1b[0m" : "");
}

void Repl::attach(const std::string& path) {
  auto text = read_file(path);
  if (!text) return fail(text.error());
  attached_ += *text;
  if (!attached_.empty() && attached_.back() != '\n') attached_ += '\n';
  note("read " + format_bytes(text->size()) + "; they go before your next message");
}

void Repl::obey(const std::string& line) {
  const size_t blank = line.find(' ');
  const std::string name = line.substr(0, blank);
  const size_t start = blank == std::string::npos ? blank : line.find_first_not_of(' ', blank);
  const std::string argument = start == std::string::npos ? "" : line.substr(start);
  const bool wants_file = name == "/read" || name == "/save" || name == "/load";
  if (wants_file && argument.empty()) return fail(make_error(name, " needs the name of a file"));
  if (name == "/help") {
    std::fputs(kHelp, stdout);
  } else if (name == "/clear") {
    session_.clear();
    attached_.clear();
    note("a new conversation");
  } else if (name == "/regen") {
    turn([&](const auto& on_text) { return session_.regenerate(on_text); });
  } else if (name == "/read") {
    attach(argument);
  } else if (name == "/set") {
    const size_t space = argument.find(' ');
    if (argument.empty()) return fail(make_error("/set needs a NAME and a VALUE; /show lists the settings"));
    const std::string setting = argument.substr(0, space);
    done_or_fail(session_.set(setting, space == std::string::npos ? "" : argument.substr(space + 1)),
                 setting + " is set");
  } else if (name == "/show") {
    std::fputs(session_.show().c_str(), stdout);
    std::fflush(stdout);
  } else if (name == "/save") {
    done_or_fail(session_.save(argument), "saved to " + argument);
  } else if (name == "/load") {
    auto loaded = session_.load(argument);
    done_or_fail(loaded,
                 "the conversation goes on after " + std::to_string(session_.turn_count()) + " turns");
  } else if (name == "/think" || name == "/nothink") {
    session_.set_thinking(name == "/think");
    note(name == "/think" ? "the model reasons before it answers, if its template can"
                          : "the model answers without reasoning, if its template can");
  } else if (name == "/quit" || name == "/exit") {
    quit_ = true;
  } else {
    fail(make_error("there is no command ", name, "; /help lists them"));
  }
}

int Repl::run() {
  std::string text;
  while (!quit_ && read_message(text)) {
    if (text.front() == '/' && text.find('\n') == std::string::npos) {
      obey(text);
      continue;
    }
    std::string message = attached_ + text;
    attached_.clear();
    turn([&](const auto& on_text) { return session_.say(std::move(message), on_text); });
  }
  return failed_ && !stdin_is_terminal() ? 1 : 0;
}

Expected<int> chat(const ChatFlags& flags) {
  if (flags.think && flags.no_think) return make_error("give either --think or --no-think, not both");
  auto options = flags.model.options();
  if (!options) return options.error();
  auto engine = create_engine(*options);
  if (!engine) return engine.error();
  ChatPrompt prompt;
  if (auto loaded = prompt.load(**engine, flags.template_file); !loaded) return loaded.error();
  if (prompt.form() != ChatPrompt::Form::kTemplate)
    std::fprintf(stderr, "deltawing: the model has no chat template; %s\n",
                 prompt.form() == ChatPrompt::Form::kChatml
                     ? "its vocabulary has the marks of ChatML, so that is used"
                     : "the conversation is put to it as a plain transcript (User: ... Assistant: ...)");
  auto id = (*engine)->open_session();
  if (!id) return id.error();
  ChatSettings settings{flags.sampling, flags.max_tokens, flags.system, std::nullopt, flags.stops};
  if (flags.think || flags.no_think) settings.thinking = flags.think;
  auto sampling = flags.sampling.resolved();
  if (!sampling) return sampling.error();
  if (auto ok = check_sampling(*sampling, (*engine)->model().hyper_parameters().vocabulary); !ok)
    return ok.error();
  ChatSession session(**engine, prompt, *id, std::move(settings));
  if (!flags.load_file.empty())
    if (auto loaded = session.load(flags.load_file); !loaded) return loaded.error();
  if (stdin_is_terminal() && !flags.quiet)
    std::fprintf(stderr, "context %d tokens; /help lists the commands\n", (*engine)->context_tokens());
  return Repl(**engine, *id, session, flags.quiet).run();
}

}  // namespace

void add_chat_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Talk with a model, turn by turn");
  command->footer(
      "Examples:\n"
      "  deltawing chat -m model.gguf\n"
      "  deltawing chat -m model.gguf -sys 'You are brief.' -c 32768 --temp 0.6\n"
      "  printf 'Hello\\n/regen\\n' | deltawing chat -m model.gguf\n"
      "Type /help for the commands. Piped input: each line is one turn.");
  flags->model.add_to(*command);
  flags->sampling.add_to(*command);
  add_prompt_flags(*command, flags->system, flags->template_file, flags->max_tokens, flags->stops);
  command->add_flag("--think", flags->think, "let the model reason before it answers");
  command->add_flag("--no-think", flags->no_think, "no reasoning (enable_thinking=false)");
  command->add_option("--load", flags->load_file, "go on with a conversation saved by /save");
  command->add_flag("-q,--quiet", flags->quiet, "no footer");
  command->callback([flags, &exit_status] {
    auto status = chat(*flags);
    exit_status = status ? *status : report_error(status.error());
  });
}

}  // namespace dw
