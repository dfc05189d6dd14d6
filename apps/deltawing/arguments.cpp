#include "arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>

#include "console.h"

namespace dw {
namespace {

const CLI::Option* find_flag(const CLI::App& command, const std::string& name) {
  const CLI::Option* option = command.get_option_no_throw(name);
  return option != nullptr && !option->get_lnames().empty() ? option : nullptr;
}

// The flags that the arguments give, up to "--".
std::vector<const CLI::Option*> given_flags(const CLI::App& command,
                                            const std::vector<std::string>& arguments) {
  std::vector<const CLI::Option*> given;
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument.size() < 2 || argument[0] != '-') continue;
    if (argument[1] == '-') {
      given.push_back(command.get_option_no_throw(argument.substr(0, argument.find('='))));
      continue;
    }
    for (size_t i = 1; i < argument.size(); ++i) {  // -qn5: the flag q, then n with its value
      given.push_back(command.get_option_no_throw(std::string{'-', argument[i]}));
      if (given.back() == nullptr || given.back()->get_expected_max() > 0) break;
    }
  }
  return given;
}

// Removes --config FILE and --config=FILE; the last one counts.
std::optional<std::string> take_config(std::vector<std::string>& arguments) {
  std::optional<std::string> path;
  if (const char* variable = std::getenv("DELTAWING_CONFIG"); variable != nullptr && *variable != '\0')
    path = variable;
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--";) {
    if (arguments[i] == "--config" && i + 1 < arguments.size()) {
      path = arguments[i + 1];
      arguments.erase(arguments.begin() + int64_t(i), arguments.begin() + int64_t(i) + 2);
    } else if (arguments[i].starts_with("--config=")) {
      path = arguments[i].substr(9);
      arguments.erase(arguments.begin() + int64_t(i));
    } else {
      ++i;
    }
  }
  return path;
}

bool known_to_some_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (find_flag(*command, name) != nullptr) return true;
  return false;
}

Expected<std::vector<CLI::ConfigItem>> read_config(const std::string& path) {
  if (auto readable = read_file(path); !readable) return readable.error();
  try {
    return CLI::ConfigBase().from_file(path);
  } catch (const CLI::Error& error) {
    return make_error(path, ": ", error.what());
  }
}

bool set_in_environment(const CLI::Option& option) {
  const char* value = std::getenv(option.get_envname().c_str());
  return value != nullptr && *value != '\0';
}

}  // namespace

std::vector<std::string> expand_arguments(int argc, char** argv) {
  static const std::map<std::string, std::string> kLong = {
      {"-ub", "--ubatch-size"},    {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"},
      {"-np", "--parallel"},       {"-ngl", "--gpu-layers"},   {"-sys", "--system"},
      {"-fa", "--flash-attn"},     {"-ts", "--tensor-split"},  {"-ncmoe", "--n-cpu-moe"},
      {"-sm", "--split-mode"},     {"-mg", "--main-gpu"},      {"-npl", "--sequences"},
      {"-pp", "--prompt-lengths"}, {"-tg", "--gen-lengths"},
  };
  std::vector<std::string> arguments(argv + std::min(1, argc), argv + argc);
  if (!arguments.empty() && arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  }
  for (std::string& argument : arguments) {
    if (argument == "--") break;
    if (const auto it = kLong.find(argument); it != kLong.end()) argument = it->second;
  }
  return arguments;
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (command->get_name() == name) return command;
  return nullptr;
}

Expected<void> apply_config(const CLI::App& app, std::vector<std::string>& arguments) {
  const auto path = take_config(arguments);
  if (!path || arguments.empty()) return {};
  const CLI::App* command = find_command(app, arguments[0]);
  if (command == nullptr) return {};
  auto items = read_config(*path);
  if (!items) return items.error();
  const auto given = given_flags(*command, arguments);
  std::vector<std::string> more;
  for (const CLI::ConfigItem& item : *items) {
    if (item.name == "++" || item.name == "--") continue;  // the parser's marks of sections
    const std::string flag = "--" + item.name;
    const bool in_section = !item.parents.empty();
    if (in_section && find_command(app, item.parents[0]) == nullptr)
      return make_error(*path, ": there is no command '", item.parents[0], "'");
    if (in_section && item.parents[0] != command->get_name()) continue;
    const CLI::Option* option = find_flag(*command, flag);
    if (option == nullptr) {
      if (in_section || !known_to_some_command(app, flag))
        return make_error(*path, ": there is no flag ", flag);
      continue;
    }
    if (set_in_environment(*option) || std::find(given.begin(), given.end(), option) != given.end()) continue;
    for (const std::string& value : item.inputs) more.push_back(flag + "=" + value);
  }
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  arguments.insert(end, more.begin(), more.end());
  return {};
}

}  // namespace dw
