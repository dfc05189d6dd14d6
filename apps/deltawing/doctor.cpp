#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "flags.h"
#include "json_output.h"
#include "machine.h"

namespace dw {
namespace {

struct DoctorFlags {
  ModelFlags model;
  bool json = false;
};

std::string limit_text(uint64_t bytes) {
  return bytes == 0 ? "unlimited" : format_bytes(bytes);
}

void row(const char* name, const std::string& value) {
  std::printf("%-18s %s\n", name, value.c_str());
}

void print_machine(const MachineReport& m) {
  row("processor", m.processor);
  row("instructions", m.level);
  row("cores", std::to_string(m.cores) + " (" + std::to_string(m.logical_processors) +
                   " logical processors, " + std::to_string(m.numa_nodes) + " NUMA node" +
                   (m.numa_nodes == 1 ? ")" : "s)"));
  row("memory",
      format_bytes(m.memory.total_bytes) + ", " + format_bytes(m.memory.free_bytes) + " free" +
          (m.memory_limit_bytes > 0 ? ", the control group allows " + format_bytes(m.memory_limit_bytes)
                                    : std::string()));
  row("swap", m.swap_bytes == 0 ? "none" : format_bytes(m.swap_bytes));
  char bandwidth[64];
  std::snprintf(bandwidth, sizeof bandwidth, "%.1f GB/s (measured)", m.read_bandwidth / 1e9);
  row("memory reads", bandwidth);
  row("huge pages", m.huge_pages);
  row("address space", limit_text(m.address_space_limit) + " (ulimit -v)");
  row("locked memory", limit_text(m.locked_memory_limit) + " (ulimit -l)");
  row("system", m.kernel);
  for (const GpuInfo& gpu : m.gpus)
    row("GPU", gpu.name + ", " + gpu.architecture + ", " + std::to_string(gpu.multiprocessors) +
                   " multiprocessors, " + format_bytes(gpu.total_bytes));
  if (m.gpus.empty()) row("GPU", m.gpu_problem);
}

void print_model(const ModelReport& model) {
  std::printf("\n");
  row("model", model.name.empty() ? model.path : model.name + " (" + model.path + ")");
  for (const auto& part : model.plan.parts)
    row(("  " + part.name).c_str(), format_bytes(part.bytes) + (part.mapped ? ", mapped from the file" : ""));
  if (!model.plan.parts.empty()) {
    row("  must fit", format_bytes(model.plan.resident_bytes()));
    row("  context", std::to_string(model.context_tokens) + " tokens");
  }
  if (model.tokens_per_second > 0) {
    char text[128];
    std::snprintf(text, sizeof text, "at most %.1f t/s: %s a token at the measured bandwidth",
                  model.tokens_per_second, format_bytes(uint64_t(model.bytes_per_token)).c_str());
    row("  generation", text);
  }
  row("  verdict", model.refusal.empty() ? "fits" : "refused: " + model.refusal);
}

int doctor(const DoctorFlags& flags) {
  DoctorReport report;
  auto options = flags.model.options();
  if (!options) return report_error(options.error());
  report.machine = inspect_machine(options->cpu.threads);
  report.has_model = !flags.model.model.empty();
  if (report.has_model) report.model = inspect_model(*options, report.machine.read_bandwidth);
  report.warnings = find_warnings(report);
  if (flags.json) {
    std::puts(doctor_json(report).c_str());
  } else {
    print_machine(report.machine);
    if (report.has_model) print_model(report.model);
    for (const std::string& warning : report.warnings) std::printf("\nwarning: %s\n", warning.c_str());
  }
  return report.model.refusal.empty() ? 0 : 1;
}

}  // namespace

void add_doctor_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command =
      app.add_subcommand("doctor", "Say what this machine can do, and whether a model fits on it");
  command->footer(
      "Examples:\n"
      "  deltawing doctor\n"
      "  deltawing doctor -m model.gguf -c 32768 --json\n"
      "The exit status is 1 when the model would be refused.");
  flags->model.add_to(*command, false);
  command->add_flag("--json", flags->json, "print one JSON object");
  command->callback([flags, &exit_status] { exit_status = doctor(*flags); });
}

}  // namespace dw
