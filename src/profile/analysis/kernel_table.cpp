#include "profile/analysis/kernel_table.h"

#include <algorithm>
#include <map>
#include <utility>

#include "profile/names/short_name.h"

namespace dw::profile {
namespace {

void add(KernelRow& row, const KernelRow& more) {
  row.launches += more.launches;
  row.time_ns += more.time_ns;
  row.gap_ns += more.gap_ns;
  row.bytes += more.bytes;
  row.operations += more.operations;
  row.noted_ns += more.noted_ns;
}

bool longer(const KernelRow& a, const KernelRow& b) {
  return a.time_ns != b.time_ns ? a.time_ns > b.time_ns : a.name < b.name;
}

}  // namespace

KernelTable make_kernel_table(std::span<const KernelEvent> events, std::span<const Annotation> annotations) {
  const Pairing pairing = pair_launches(events, annotations);
  const Timeline line = lay_out(events);
  KernelTable table;
  std::map<std::string, std::map<std::string_view, KernelRow>> rows;
  for (size_t i = 0; i < events.size(); ++i) {
    const KernelEvent& event = events[i];
    const int32_t note = pairing.annotation[i];
    const bool is_kernel = event.kind == EventKind::kKernel;
    table.kernel_count += is_kernel ? 1 : 0;
    KernelRow one;
    one.launches = 1;
    one.time_ns = line.time_ns[i];
    one.gap_ns = line.gap_ns[i];
    if (note >= 0 || !is_kernel) one.noted_ns = one.time_ns;
    one.bytes = note >= 0 ? annotations[size_t(note)].bytes : double(event.bytes);
    one.operations = note >= 0 ? annotations[size_t(note)].operations : 0;
    const std::string op = note >= 0   ? annotations[size_t(note)].op
                           : is_kernel ? "(not annotated)"
                                       : "memory";
    KernelRow& row = rows[op][event.name];
    if (row.launches == 0) row.name = is_kernel ? short_name(event.name) : std::string(event.name);
    add(row, one);
  }
  for (auto& [op, kernels] : rows) {
    OpRow row;
    row.total.name = op;
    for (auto& [name, kernel] : kernels) {
      kernel.kernel = name;
      add(row.total, kernel);
      row.kernels.push_back(std::move(kernel));
    }
    std::sort(row.kernels.begin(), row.kernels.end(), longer);
    add(table.total, row.total);
    table.ops.push_back(std::move(row));
  }
  std::sort(table.ops.begin(), table.ops.end(),
            [](const OpRow& a, const OpRow& b) { return longer(a.total, b.total); });
  table.total.name = "total";
  table.span_ns = line.span_ns;
  table.busy_ns = line.busy_ns;
  table.idle_ns = line.idle_ns;
  table.graph_idle_ns = line.graph_idle_ns;
  table.unknown_kernels = pairing.kernels_alone;
  table.missing_kernels = pairing.annotations_alone;
  return table;
}

}  // namespace dw::profile
