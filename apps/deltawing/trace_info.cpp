#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "commands.h"
#include "console.h"
#include "profile/ingest/ingest.h"
#include "profile/ingest/summary.h"

namespace dw {
namespace {

using Json = nlohmann::ordered_json;
using profile::StatRow;
using profile::Trace;
using profile::TraceSummary;

constexpr size_t kTopKernels = 10;
constexpr size_t kNameWidth = 90;

struct TraceInfoFlags {
  std::vector<std::string> paths;
  bool json = false;
};

// Names come from the file: no control characters for the terminal.
std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (uint8_t(c) < 0x20 || c == 0x7f) c = '?';
  return out;
}

std::string shortened(std::string_view name) {
  std::string text = printable(name);
  if (text.size() <= kNameWidth) return text;
  size_t end = kNameWidth - 3;
  while (end > 0 && (uint8_t(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

double share(int64_t part, int64_t whole) {
  return whole > 0 ? 100 * double(part) / double(whole) : 0;
}

std::string device_text(const profile::TraceDevice& device) {
  std::string text = device.name.empty() ? "device " + std::to_string(device.id) : printable(device.name);
  if (!device.architecture.empty()) text += " (" + printable(device.architecture) + ")";
  if (device.units > 0) text += ", " + std::to_string(device.units) + " units";
  return text;
}

Json kernel_json(const Trace& trace, const StatRow& row, int64_t total_ns) {
  return {{"name", trace.names[row.name]}, {"calls", row.calls},
          {"total_ns", row.total_ns},      {"min_ns", row.min_ns},
          {"max_ns", row.max_ns},          {"share", share(row.total_ns, total_ns) / 100}};
}

Json trace_json(const std::string& path, const Trace& trace, const TraceSummary& s) {
  Json devices = Json::array(), top = Json::array();
  for (const profile::TraceDevice& d : trace.devices)
    devices.push_back({{"id", d.id}, {"name", d.name}, {"architecture", d.architecture}, {"units", d.units}});
  for (size_t i = 0; i < std::min(kTopKernels, s.kernels_by_time.size()); ++i)
    top.push_back(kernel_json(trace, s.kernels_by_time[i], s.total_ns));
  Json json = {{"file", path},
               {"format", profile::format_name(trace.format)},
               {"tool", trace.tool},
               {"devices", std::move(devices)},
               {"kernels", s.kernels},
               {"names", s.names},
               {"copies", s.copies},
               {"fills", s.fills},
               {"matrix_products", trace.gemms.size()},
               {"total_ns", s.total_ns}};
  // A file of sums has neither; null says so.
  json["busy_ns"] = trace.has_times() ? Json(s.busy_ns) : Json(nullptr);
  json["span_ns"] = trace.has_times() ? Json(s.span_ns) : Json(nullptr);
  json["top_kernels"] = std::move(top);
  json["warnings"] = trace.warnings;
  return json;
}

void print_row(const char* name, const std::string& value) {
  std::printf("%-10s %s\n", name, value.c_str());
}

void print_top(const Trace& trace, const TraceSummary& s) {
  if (s.kernels_by_time.empty()) return;
  std::printf("\n%10s %14s %7s %12s  %s\n", "calls", "total us", "share", "average us", "kernel");
  for (size_t i = 0; i < std::min(kTopKernels, s.kernels_by_time.size()); ++i) {
    const StatRow& row = s.kernels_by_time[i];
    std::printf("%10lld %14.3f %6.2f%% %12.3f  %s\n", static_cast<long long>(row.calls),
                double(row.total_ns) / 1e3, share(row.total_ns, s.total_ns),
                double(row.total_ns) / 1e3 / double(row.calls), shortened(trace.names[row.name]).c_str());
  }
  if (s.kernels_by_time.size() > kTopKernels)
    std::printf("%10s and %zu kernels more\n", "", s.kernels_by_time.size() - kTopKernels);
}

void print_text(const std::string& path, const Trace& trace, const TraceSummary& s) {
  std::printf("%s\n", printable(path).c_str());
  print_row("format", std::string(profile::format_name(trace.format)));
  if (!trace.tool.empty()) print_row("tool", printable(trace.tool));
  for (const profile::TraceDevice& device : trace.devices) print_row("device", device_text(device));
  print_row("kernels", std::to_string(s.kernels) + " of " + std::to_string(s.names) + " names; " +
                           std::to_string(s.copies) + " copies, " + std::to_string(s.fills) + " fills");
  if (!trace.gemms.empty())
    print_row("products", std::to_string(trace.gemms.size()) + " logged matrix products");
  print_row("time", format_seconds(double(s.total_ns) / 1e9) + " in kernels");
  if (trace.has_times()) {
    char text[96];
    std::snprintf(text, sizeof text, "%s of %s busy (%.2f %%)",
                  format_seconds(double(s.busy_ns) / 1e9).c_str(),
                  format_seconds(double(s.span_ns) / 1e9).c_str(), share(s.busy_ns, s.span_ns));
    print_row("span", text);
  }
  print_top(trace, s);
  for (const std::string& warning : trace.warnings) std::printf("warning: %s\n", printable(warning).c_str());
}

int trace_info(const TraceInfoFlags& flags) {
  int status = 0;
  Json list = Json::array();
  bool first = true;
  for (const std::string& path : flags.paths) {
    const auto trace = profile::read_trace(path);
    if (!trace) {
      status = report_error(trace.error());
      continue;
    }
    const TraceSummary summary = profile::summarize_trace(*trace);
    if (flags.json) {
      list.push_back(trace_json(path, *trace, summary));
    } else {
      if (!first) std::printf("\n");
      print_text(path, *trace, summary);
    }
    first = false;
  }
  if (flags.json) std::puts(list.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  return status;
}

}  // namespace

void add_trace_info_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<TraceInfoFlags>();
  CLI::App* command = app.add_subcommand("trace-info", "Show what is in GPU traces of any profiler");
  command->footer(
      "Reads rocprof, rocprofv2, rocprofv3 and rocpd, RPD, Nsight Systems (SQLite, CSV), Nsight Compute "
      "(CSV),\n"
      "PyTorch (Kineto) and Perfetto traces, plain or packed (.gz, .zst), and logs of rocBLAS and "
      "hipBLASLt.\n"
      "The format is found by the content. --json prints an array with one object a file.\n"
      "Examples:\n"
      "  deltawing trace-info 1234_results.db\n"
      "  deltawing trace-info --json trace.json.gz | jq '.[0].top_kernels'");
  command->add_option("files", flags->paths, "the traces")->required();
  command->add_flag("--json", flags->json, "print JSON");
  command->callback([flags, &exit_status] { exit_status = trace_info(*flags); });
}

}  // namespace dw
