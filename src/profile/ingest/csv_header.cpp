#include "profile/ingest/csv_header.h"

#include <algorithm>

#include "profile/ingest/number.h"

namespace dw::profile {
namespace {

struct Known {
  std::string_view name;
  Column column;
};
// rocprof v1, rocprofv2, rocprofv3 (and rocpd convert), Nsight Systems and Nsight Compute.
constexpr Known kKnown[] = {
    {"kernel_name", Column::kName},
    {"kernelname", Column::kName},
    {"kernel name", Column::kName},
    {"name", Column::kName},
    {"start_timestamp", Column::kStart},
    {"beginns", Column::kStart},
    {"start", Column::kStart},
    {"end_timestamp", Column::kEnd},
    {"endns", Column::kEnd},
    {"duration", Column::kDuration},
    {"kind", Column::kKind},
    {"direction", Column::kDirection},
    {"agent_id", Column::kDevice},
    {"gpu_id", Column::kDevice},
    {"gpu-id", Column::kDevice},
    {"device", Column::kDevice},
    {"destination_agent_id", Column::kDevice},
    {"queue_id", Column::kQueue},
    {"queue-id", Column::kQueue},
    {"stream_id", Column::kStream},
    {"stream", Column::kStream},
    {"strm", Column::kStream},
    {"pid", Column::kProcess},
    {"process_id", Column::kProcess},
    {"process id", Column::kProcess},
    {"correlation_id", Column::kCorrelation},
    {"corrid", Column::kCorrelation},
    {"dispatch_id", Column::kDispatch},
    {"id", Column::kDispatch},
    {"grid_size_x", Column::kGridX},
    {"grid_size_y", Column::kGridY},
    {"grid_size_z", Column::kGridZ},
    {"grdx", Column::kGridX},
    {"grdy", Column::kGridY},
    {"grdz", Column::kGridZ},
    {"workgroup_size_x", Column::kBlockX},
    {"workgroup_size_y", Column::kBlockY},
    {"workgroup_size_z", Column::kBlockZ},
    {"blkx", Column::kBlockX},
    {"blky", Column::kBlockY},
    {"blkz", Column::kBlockZ},
    {"grd", Column::kGridTotal},
    {"grid_size", Column::kGridTotal},
    {"wgr", Column::kBlockTotal},
    {"workgroup_size", Column::kBlockTotal},
    {"lds", Column::kLds},
    {"lds_per_workgroup", Column::kLds},
    {"lds_block_size", Column::kLds},
    {"group_segment_size", Column::kLds},
    {"stcsmem", Column::kLds},
    {"dymsmem", Column::kDynamicLds},
    {"scr", Column::kScratch},
    {"scratch_per_workitem", Column::kScratch},
    {"scratch_size", Column::kScratch},
    {"private_segment_size", Column::kScratch},
    {"vgpr", Column::kVgpr},
    {"arch_vgpr", Column::kVgpr},
    {"vgpr_count", Column::kVgpr},
    {"reg/trd", Column::kVgpr},
    {"accum_vgpr", Column::kAccumVgpr},
    {"accum_vgpr_count", Column::kAccumVgpr},
    {"sgpr", Column::kSgpr},
    {"sgpr_count", Column::kSgpr},
    {"bytes", Column::kBytes},
    {"calls", Column::kCalls},
    {"instances", Column::kCalls},
    {"totaldurationns", Column::kTotal},
    {"total time", Column::kTotal},
    {"minns", Column::kMin},
    {"min", Column::kMin},
    {"minimum", Column::kMin},
    {"maxns", Column::kMax},
    {"max", Column::kMax},
    {"maximum", Column::kMax},
    {"counter_name", Column::kCounter},
    {"metric name", Column::kMetric},
    {"metric unit", Column::kUnit},
    {"metric value", Column::kValue},
};

int unit_shift(std::string_view unit) {
  if (const auto time = time_shift(unit)) return *time;
  if (unit == "kb") return 3;
  if (unit == "mb") return 6;
  if (unit == "gb") return 9;
  return 0;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c + ('a' - 'A'));
  return out;
}

bool classify(CsvHeader& h, const std::vector<std::string>& names) {
  const auto named = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const bool name = h.has(Column::kName);
  if (name && h.has(Column::kMetric) && h.has(Column::kValue)) {
    h.kind = CsvHeader::Kind::kMetrics;
    h.format = TraceFormat::kNcuCsv;
  } else if (name && h.has(Column::kCalls) && h.has(Column::kTotal)) {
    h.kind = CsvHeader::Kind::kSums;
    h.format = named("instances")    ? TraceFormat::kNsysStatsCsv
               : h.has(Column::kMin) ? TraceFormat::kRocprofv3StatsCsv
                                     : TraceFormat::kRocprofStatsCsv;
  } else if (name && h.has(Column::kStart) && h.has(Column::kEnd)) {
    h.kind = CsvHeader::Kind::kDispatches;
    h.format = named("beginns")  ? TraceFormat::kRocprofCsv
               : named("gpu_id") ? TraceFormat::kRocprofv2Csv
                                 : TraceFormat::kRocprofv3Csv;
  } else if (name && h.has(Column::kStart) && h.has(Column::kDuration) && h.has(Column::kGridX)) {
    h.kind = CsvHeader::Kind::kStarts;
    h.format = TraceFormat::kNsysTraceCsv;
  } else if (h.has(Column::kDirection) && h.has(Column::kStart) && h.has(Column::kEnd)) {
    h.kind = CsvHeader::Kind::kCopies;
    h.format = TraceFormat::kRocprofv3Csv;
  } else if (named("kernelname") && h.has(Column::kGridTotal)) {
    h.kind = CsvHeader::Kind::kUntimed;
    h.format = TraceFormat::kRocprofCsv;
  } else {
    return false;
  }
  return true;
}

}  // namespace

size_t CsvHeader::name_column() const {
  const int32_t column = at[size_t(Column::kName)];
  return column >= 0 ? size_t(column) : 0;
}

std::optional<CsvHeader> recognise_header(const CsvRow& row) {
  if (row.size() < 3 || row.size() > 4096) return std::nullopt;
  CsvHeader header;
  header.columns = row.size();
  header.at.fill(-1);
  header.shift.fill(0);
  std::vector<std::string> names;
  for (size_t i = 0; i < row.size(); ++i) {
    std::string name = lower(row[i]);
    if (i == 0 && name.starts_with("\xef\xbb\xbf")) name.erase(0, 3);
    std::string unit;
    const size_t open = name.find(" (");
    if (open != std::string::npos && name.ends_with(')')) {
      unit = name.substr(open + 2, name.size() - open - 3);
      name.erase(open);
    }
    for (const Known& known : kKnown) {
      if (known.name != name || header.has(known.column)) continue;
      header.at[size_t(known.column)] = int32_t(i);
      header.shift[size_t(known.column)] = unit_shift(unit);
    }
    names.push_back(std::move(name));
  }
  if (!classify(header, names)) return std::nullopt;
  return header;
}

}  // namespace dw::profile
