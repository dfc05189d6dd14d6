// The deltawing program: finds the sub-command and hands over.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>

#include "arguments.h"
#include "commands.h"
#include "console.h"
#include "flags.h"

namespace {

constexpr int kBadUsage = 2;

// The footer says once how flags are named in the environment, so their lines need not.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = CLI::Formatter::make_option_opts(option);
    const size_t begin = text.find(" (Env:");
    if (begin != std::string::npos) text.erase(begin, text.find(')', begin) + 1 - begin);
    return text;
  }
};

// One sentence on stderr, without the parser's second line.
int bad_usage(const CLI::App& app, std::string message) {
  const auto chosen = app.get_subcommands();
  const std::string command = chosen.empty() ? "deltawing" : "deltawing " + chosen[0]->get_name();
  while (!message.empty() && (message.back() == '\n' || message.back() == '.')) message.pop_back();
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s; see %s --help\n", command.c_str(), message.c_str(), command.c_str());
  return kBadUsage;
}

void add_commands(CLI::App& app, int& exit_status) {
  dw::add_run_command(app, exit_status);
  dw::add_chat_command(app, exit_status);
  dw::add_inspect_command(app, exit_status);
  dw::add_bench_command(app, exit_status);
  dw::add_eval_command(app, exit_status);
  dw::add_quantize_command(app, exit_status);
  dw::add_synth_command(app, exit_status);
  dw::add_doctor_command(app, exit_status);
  dw::add_explain_name_command(app, exit_status);
  dw::add_trace_info_command(app, exit_status);
  dw::add_completion_command(app, exit_status);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);
  CLI::App app("Deltawing runs Qwen3-Next models from GGUF files.", "deltawing");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", DW_VERSION);
  app.require_subcommand(1);
  app.add_option("--config", "read flags from an INI or TOML file");
  app.footer(
      "Example:\n"
      "  deltawing run -m model.gguf -p \"Once upon a time\"\n"
      "Each command has its own --help. Each long flag also reads DELTAWING_<NAME> from the environment\n"
      "(--top-k: DELTAWING_TOP_K). The command line wins over the environment, the environment over the\n"
      "--config file. Exit status: 0 done, 1 an error, 2 bad usage, 130 stopped by Ctrl+C.");
  int exit_status = 0;
  add_commands(app, exit_status);
  dw::finish_flags(app);
  std::vector<std::string> arguments = dw::expand_arguments(argc, argv);
  if (arguments.empty()) return bad_usage(app, "no command is given");
  if (arguments[0][0] != '-' && dw::find_command(app, arguments[0]) == nullptr)
    return bad_usage(app, "there is no command '" + arguments[0] + "'");
  if (auto applied = dw::apply_config(app, arguments); !applied) {
    dw::report_error(applied.error());
    return kBadUsage;
  }
  std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return bad_usage(app, error.what());
  }
  return exit_status;
}
