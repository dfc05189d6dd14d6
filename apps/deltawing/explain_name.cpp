#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "commands.h"
#include "console.h"
#include "json_output.h"
#include "profile/names/kernel_name.h"

namespace dw {
namespace {

struct ExplainFlags {
  std::vector<std::string> names;
  bool json = false, brief = false;
};

// One name a line; empty lines are no names.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

void print_name(const profile::KernelName& name) {
  std::printf("%s\n", name.short_name.c_str());
  std::printf("  family    %s\n", std::string(name.family).c_str());
  std::printf("  category  %s\n", std::string(category_name(name.category)).c_str());
  std::printf("  meaning   %s\n", name.words.c_str());
  size_t width = 0;
  for (const auto& detail : name.details)
    width = std::max(width, detail.key.size() + (detail.value.empty() ? 0 : 1 + detail.value.size()));
  for (const auto& detail : name.details) {
    const std::string left = detail.key + (detail.value.empty() ? "" : " " + detail.value);
    const std::string line = "    " + left + std::string(width - left.size() + 2, ' ') + detail.meaning;
    std::printf("%s\n", line.substr(0, line.find_last_not_of(' ') + 1).c_str());
  }
}

Expected<void> explain(ExplainFlags flags) {
  std::vector<std::string> names;
  for (const std::string& name : flags.names) {
    if (name != "-") {
      names.push_back(name);
      continue;
    }
    auto text = read_standard_input();
    if (!text) return text.error();
    for (std::string& line : lines_of(*text)) names.push_back(std::move(line));
  }
  if (names.empty()) return make_error("there is no name to explain: standard input is empty");
  if (flags.json) {
    std::puts(kernel_names_json(names).c_str());
    return {};
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const profile::KernelName name = profile::describe(names[i]);
    if (flags.brief) {
      std::printf("%s\t%s\t%s\t%s\n", std::string(category_name(name.category)).c_str(),
                  std::string(name.family).c_str(), name.short_name.c_str(), name.words.c_str());
      continue;
    }
    if (i > 0) std::printf("\n");
    print_name(name);
  }
  return {};
}

}  // namespace

void add_explain_name_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<ExplainFlags>();
  CLI::App* command = app.add_subcommand("explain-name", "Say what the name of a GPU kernel means");
  command->footer(
      "Examples:\n"
      "  deltawing explain-name Cijk_Alik_Bljk_SB_MT64x32x16_SN_GSU2_ISA906_KLA_TT8_4_WG8_8_2\n"
      "  deltawing explain-name 'void mul_mat_q<(ggml_type)12, 128, false>(char const*)'\n"
      "  cut -f9 trace.tsv | sort -u | deltawing explain-name --brief -\n"
      "Names of rocBLAS and hipBLASLt are taken apart completely; of other software the names are "
      "recognised,\n"
      "and template arguments, tiles and types are read from them. Nothing is sent anywhere.");
  command
      ->add_option("name", flags->names,
                   "names as a profiler prints them, mangled or not; -: one a line from standard input")
      ->required()
      ->expected(1, -1);
  command->add_flag("--brief", flags->brief,
                    "a line a name: category, family, short name, meaning (tabs between)");
  command->add_flag("--json", flags->json, "print a JSON array");
  command->callback([flags, &exit_status] {
    if (auto done = explain(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
