#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "commands.h"

namespace dw {
namespace {

// Flags whose value is a file name; the names of the others' values cannot be guessed.
bool takes_file(const CLI::Option& option) {
  static const std::vector<std::string> kFiles = {
      "model",   "file",   "chat-template-file", "load",    "save",
      "against", "config", "vocab-from",         "imatrix", "output"};
  const auto& names = option.get_lnames();
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return std::find(kFiles.begin(), kFiles.end(), name) != kFiles.end();
  });
}

bool takes_value(const CLI::Option& option) {
  return option.get_expected_max() > 0;
}

std::vector<const CLI::App*> commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<const CLI::Option*> flags(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) {
    return !option->get_lnames().empty() || !option->get_snames().empty();
  });
}

std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> all;
  for (const std::string& name : option.get_snames()) all.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) all.push_back("--" + name);
  return all;
}

std::string joined(const std::vector<std::string>& words, const char* between = " ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// What a shell or zsh takes for a mark of its own is left out of descriptions.
std::string plain(const std::string& description) {
  std::string text;
  for (char c : description)
    if (std::string("'\"[]:\\`$").find(c) == std::string::npos) text += c;
  return text;
}

std::string bash_script(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands(app)) names.push_back(command->get_name());
  std::string text =
      "# bash completion of deltawing; put it into ~/.local/share/bash-completion/completions/deltawing\n"
      "_deltawing() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words='' files='' "
      "values=''\n"
      "  COMPREPLY=()\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W '" +
      joined(names) +
      " help --help --version' -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${COMP_WORDS[1]} in\n";
  for (const CLI::App* command : commands(app)) {
    std::vector<std::string> words, files, values;
    for (const CLI::Option* option : flags(*command))
      for (const std::string& name : spellings(*option)) {
        if (name.starts_with("--")) words.push_back(name);
        if (takes_value(*option)) (takes_file(*option) ? files : values).push_back(name);
      }
    text += "    " + command->get_name() + ")\n      words='" + joined(words) + "'\n      files='" +
            joined(files) + "'\n      values='" + joined(values) + "' ;;\n";
  }
  text += "    help) words='" + joined(names) + "' ;;\n";
  return text +
         "  esac\n"
         "  if [[ \" $values \" == *\" $before \"* ]]; then\n"
         "    return\n"
         "  fi\n"
         "  if [[ \" $files \" == *\" $before \"* || ($word != -* && ${COMP_WORDS[1]} != help) ]]; then\n"
         "    compopt -o filenames 2>/dev/null\n"
         "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -F _deltawing deltawing\n";
}

std::string zsh_script(const CLI::App& app) {
  std::string text =
      "#compdef deltawing\n"
      "_deltawing() {\n"
      "  local -a commands\n"
      "  commands=(\n";
  for (const CLI::App* command : commands(app))
    text += "    '" + command->get_name() + ":" + plain(command->get_description()) + "'\n";
  text +=
      "  )\n"
      "  if ((CURRENT == 2)); then\n"
      "    _describe 'command' commands\n"
      "    return\n"
      "  fi\n"
      "  case $words[2] in\n";
  for (const CLI::App* command : commands(app)) {
    text += "    " + command->get_name() + ")\n      _arguments";
    for (const CLI::Option* option : flags(*command))
      for (const std::string& name : spellings(*option)) {
        const char* value = !takes_value(*option) ? "" : takes_file(*option) ? ":file:_files" : ":value:";
        text += " \\\n        '" + name + "[" + plain(option->get_description()) + "]" + value + "'";
      }
    text += " \\\n        '*:file:_files' ;;\n";
  }
  return text +
         "  esac\n"
         "}\n"
         "compdef _deltawing deltawing\n";
}

std::string fish_script(const CLI::App& app) {
  std::string text =
      "# fish completion of deltawing; put it into ~/.config/fish/completions/deltawing.fish\n";
  for (const CLI::App* command : commands(app))
    text += "complete -c deltawing -n __fish_use_subcommand -f -a " + command->get_name() + " -d '" +
            plain(command->get_description()) + "'\n";
  for (const CLI::App* command : commands(app))
    for (const CLI::Option* option : flags(*command)) {
      text += "complete -c deltawing -n '__fish_seen_subcommand_from " + command->get_name() + "'";
      for (const std::string& name : option->get_snames()) text += " -s " + name;
      for (const std::string& name : option->get_lnames()) text += " -l " + name;
      if (takes_value(*option)) text += takes_file(*option) ? " -r -F" : " -x";
      text += " -d '" + plain(option->get_description()) + "'\n";
    }
  return text;
}

}  // namespace

void add_completion_command(CLI::App& app, int&) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "Print a completion script for a shell");
  command->footer(
      "Examples:\n"
      "  source <(deltawing completion bash)\n"
      "  deltawing completion zsh > ~/.zfunc/_deltawing\n"
      "  deltawing completion fish > ~/.config/fish/completions/deltawing.fish");
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([shell, &app] {
    const std::string script = *shell == "bash"  ? bash_script(app)
                               : *shell == "zsh" ? zsh_script(app)
                                                 : fish_script(app);
    std::fputs(script.c_str(), stdout);
  });
}

}  // namespace dw
