// The deltawing program: finds the sub-command and hands over.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "commands.h"
#include "flags.h"

int main(int argc, char** argv) {
  CLI::App app("Deltawing runs Qwen3-Next models from GGUF files.", "deltawing");
  app.set_version_flag("--version", DW_VERSION);
  app.require_subcommand(1);
  app.set_config("--config", "", "read flags from an INI or TOML file");
  app.footer(
      "Example:\n  deltawing run -m model.gguf -p \"Once upon a time\"\nEach command has its own --help.");
  int exit_status = 0;
  dw::add_run_command(app, exit_status);
  dw::add_bench_command(app, exit_status);
  dw::add_eval_command(app, exit_status);
  dw::add_inspect_command(app, exit_status);
  dw::add_synth_command(app, exit_status);
  dw::add_quantize_command(app, exit_status);
  std::vector<std::string> arguments = dw::expand_short_flags(argc, argv);
  std::reverse(arguments.begin(), arguments.end());  // the parser takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : 2;
  }
  return exit_status;
}
