// CSV of rocprof, rocprofv2, rocprofv3, Nsight Systems and Nsight Compute. One loop over the lines: a line
// that is a header opens a table, an empty one closes it, everything outside of tables is preamble.
#include <unordered_set>

#include "profile/ingest/csv_header.h"
#include "profile/ingest/number.h"
#include "profile/ingest/readers.h"

namespace dw::profile {
namespace {

class CsvReader {
 public:
  CsvReader(Input& input, TraceBuilder& builder) : lines_(input), builder_(builder) {}
  bool read(std::string& why);

 private:
  bool open_table(std::string_view line);
  void read_row(std::string_view line);
  void read_event();
  void read_sum();
  void read_metric();
  void read_untimed();
  bool times(TraceEvent& event);
  void launch(TraceEvent& event);
  EventKind kind_of(std::string_view kind, std::string_view name) const;
  void bad(std::string_view singular, std::string_view plural) { builder_.count(singular, plural, where()); }
  std::string where() const { return "line " + std::to_string(lines_.number()); }

  std::string_view text(Column c) const {
    const int32_t at = header_.at[size_t(c)];
    return at >= 0 ? row_[size_t(at)] : std::string_view();
  }
  // Plain digits are the common case; thousands separators and fractions take the slow way.
  std::optional<int64_t> scaled(Column c) const {
    const std::string_view field = text(c);
    const int shift = header_.shift[size_t(c)];
    if (shift == 0)
      if (const auto value = parse_integer(field)) return value;
    return parse_grouped(field, shift, shift == 0);
  }
  int64_t number(Column c) const { return header_.has(c) ? scaled(c).value_or(0) : 0; }
  // "Agent 7", "GPU-0", "NVIDIA H100 (0)", "7"
  uint64_t trailing_number(Column c) const;
  std::string name_text() const;
  bool in_blocks() const { return header_.format == TraceFormat::kNsysTraceCsv; }

  LineReader lines_;
  TraceBuilder& builder_;
  CsvHeader header_;
  CsvRow row_;
  bool in_table_ = false, any_table_ = false;
  std::string device_;
  std::unordered_set<uint64_t> dispatches_;  // of counter_collection: one row a dispatch and counter
};

uint64_t CsvReader::trailing_number(Column c) const {
  const std::string_view field = text(c);
  const size_t last = field.find_last_of("0123456789");
  if (last == std::string_view::npos) return 0;
  size_t first = last;
  while (first > 0 && field[first - 1] >= '0' && field[first - 1] <= '9') --first;
  return uint64_t(parse_integer(field.substr(first, last + 1 - first)).value_or(0));
}

// Nsight's files escape quotes, rocprof's do not.
std::string CsvReader::name_text() const {
  std::string name(text(Column::kName));
  if (header_.format == TraceFormat::kNsysTraceCsv || header_.format == TraceFormat::kNsysStatsCsv ||
      header_.format == TraceFormat::kNcuCsv)
    for (size_t at = name.find("\"\""); at != std::string::npos; at = name.find("\"\"", at + 1))
      name.erase(at, 1);
  return name;
}

EventKind CsvReader::kind_of(std::string_view kind, std::string_view name) const {
  if (header_.kind == CsvHeader::Kind::kCopies || kind == "MEMORY_COPY" || name.starts_with("[CUDA memcpy"))
    return EventKind::kCopy;
  if (name.starts_with("[CUDA memset")) return EventKind::kFill;
  return EventKind::kKernel;
}

bool CsvReader::times(TraceEvent& event) {
  const auto start = scaled(Column::kStart);
  const auto second = scaled(header_.kind == CsvHeader::Kind::kStarts ? Column::kDuration : Column::kEnd);
  if (!start || !second) {
    bad("row has times that are no numbers and is left out",
        "rows have times that are no numbers and are left out");
    return false;
  }
  event.start_ns = *start;
  event.end_ns = *second;
  if (header_.kind == CsvHeader::Kind::kStarts && __builtin_add_overflow(*start, *second, &event.end_ns)) {
    bad("row has times out of range and is left out", "rows have times out of range and are left out");
    return false;
  }
  return true;
}

void CsvReader::launch(TraceEvent& event) {
  Launch launch;
  std::array<int64_t, 3> grid{number(Column::kGridX), number(Column::kGridY), number(Column::kGridZ)};
  std::array<int64_t, 3> block{number(Column::kBlockX), number(Column::kBlockY), number(Column::kBlockZ)};
  if (header_.has(Column::kGridTotal) && !header_.has(Column::kGridX)) {
    grid = {number(Column::kGridTotal), 1, 1};
    block = {number(Column::kBlockTotal), 1, 1};
  }
  launch.grid = in_blocks() ? sizes_of(grid) : blocks_of(grid, block);
  launch.block = sizes_of(block);
  launch.registers = small_count(number(Column::kVgpr));
  launch.accumulation_registers = small_count(number(Column::kAccumVgpr));
  launch.scalar_registers = small_count(number(Column::kSgpr));
  if (__builtin_add_overflow(number(Column::kLds), number(Column::kDynamicLds), &launch.shared_bytes))
    launch.shared_bytes = 0;
  launch.scratch_bytes = number(Column::kScratch);
  launch.bytes = number(Column::kBytes);
  event.launch = builder_.trace.launches.intern(launch);
}

void CsvReader::read_event() {
  const std::string_view kind = text(Column::kKind);
  if (header_.has(Column::kKind) && kind != "KERNEL_DISPATCH" && kind != "MEMORY_COPY" && !kind.empty()) {
    builder_.count("row is of another kind than kernels and copies",
                   "rows are of other kinds than kernels and copies",
                   where() + ": " + std::string(kind.substr(0, 40)));
    return;
  }
  TraceEvent event;
  if (!times(event)) return;
  if (header_.has(Column::kCounter) &&
      !dispatches_.insert(uint64_t(number(Column::kDispatch)) ^ (uint64_t(number(Column::kProcess)) << 40))
           .second)
    return;
  if (header_.kind == CsvHeader::Kind::kCopies) {
    event.name = builder_.trace.names.intern(text(Column::kDirection));
  } else if (text(Column::kName).find("\"\"") != std::string_view::npos) {
    event.name = builder_.kernel_name(name_text());
  } else {
    event.name = builder_.kernel_name(text(Column::kName));
  }
  if (event.name == 0) bad("event has no name", "events have no name");
  event.kind = kind_of(kind, text(Column::kName));
  if (in_blocks() && text(Column::kDevice) != device_) {
    device_ = text(Column::kDevice);  // "NVIDIA H100 80GB HBM3 (0)"
    builder_.device({trailing_number(Column::kDevice), device_.substr(0, device_.rfind(" (")), "", 0});
  }
  launch(event);
  event.lane = builder_.lane({uint64_t(number(Column::kProcess)), trailing_number(Column::kDevice),
                              trailing_number(Column::kQueue), trailing_number(Column::kStream)});
  event.correlation = builder_.correlation(uint64_t(number(Column::kCorrelation)));
  builder_.add(event, [&] { return where(); });
}

// The statistics of API calls and copies have the same columns as those of kernels.
bool is_api_name(std::string_view name) {
  const auto capital = [&](size_t at) { return name.size() > at && name[at] >= 'A' && name[at] <= 'Z'; };
  const bool call = (name.starts_with("hip") && capital(3)) || name.starts_with("hsa_") ||
                    (name.starts_with("cuda") && capital(4)) || name.starts_with("__hip");
  return (call && name.find_first_of("(<") == std::string_view::npos) || name.starts_with("MEMORY_COPY_");
}

void CsvReader::read_sum() {
  const auto calls = scaled(Column::kCalls), total = scaled(Column::kTotal);
  if (!calls || !total || *calls < 0 || *total < 0) {
    bad("row has sums that are no numbers and is left out",
        "rows have sums that are no numbers and are left out");
    return;
  }
  if (is_api_name(text(Column::kName))) {
    bad("row is of an API call or a copy, not of a kernel, and is left out",
        "rows are of API calls or copies, not of kernels, and are left out");
    return;
  }
  builder_.add_stat(builder_.kernel_name(name_text()), *calls, *total, number(Column::kMin),
                    number(Column::kMax));
}

// Nsight Compute: a row a kernel and metric; the duration is one of them.
void CsvReader::read_metric() {
  const std::string_view metric = text(Column::kMetric);
  if (metric != "Duration" && metric != "gpu__time_duration.sum") return;
  if (!dispatches_.insert(uint64_t(number(Column::kDispatch)) ^ (uint64_t(number(Column::kProcess)) << 40))
           .second)
    return;
  const auto shift = time_shift(text(Column::kUnit));
  const auto time = shift ? parse_grouped(text(Column::kValue), *shift, *shift == 0) : std::nullopt;
  if (!time || *time < 0) {
    bad("duration is no number of a known unit and is left out",
        "durations are no numbers of a known unit and are left out");
    return;
  }
  const uint32_t name = builder_.kernel_name(name_text());
  builder_.add_stat(name, 1, *time, *time, *time);
}

void CsvReader::read_untimed() {
  builder_.add_stat(builder_.kernel_name(text(Column::kName)), 1, 0, 0, 0);
}

void CsvReader::read_row(std::string_view line) {
  if (!row_.split(line, header_.columns, header_.name_column())) {
    if (open_table(line)) return;
    if (lines_.ended_in_newline())
      bad("row has fewer fields than the header and is left out",
          "rows have fewer fields than the header and are left out");
    else
      builder_.warn("the file ends inside " + where() + ", which is left out");
    return;
  }
  if (header_.has(Column::kStart) && !text(Column::kStart).empty() && text(Column::kStart)[0] > '9' &&
      open_table(line))
    return;
  switch (header_.kind) {
    case CsvHeader::Kind::kDispatches:
    case CsvHeader::Kind::kStarts:
    case CsvHeader::Kind::kCopies:
      return read_event();
    case CsvHeader::Kind::kSums:
      return read_sum();
    case CsvHeader::Kind::kMetrics:
      return read_metric();
    case CsvHeader::Kind::kUntimed:
      return read_untimed();
  }
}

bool CsvReader::open_table(std::string_view line) {
  CsvRow row;
  row.split_all(line);
  const auto header = recognise_header(row);
  if (!header) return false;
  if (!any_table_) builder_.trace.format = header->format;
  const bool sums = header->kind == CsvHeader::Kind::kSums;
  if (any_table_ && sums && !builder_.trace.events.empty()) {
    in_table_ = false;  // a trace and its own sums in one file: the trace says more
    return true;
  }
  header_ = *header;
  in_table_ = any_table_ = true;
  return true;
}

bool CsvReader::read(std::string& why) {
  std::string_view line;
  uint64_t preamble = 0;
  while (lines_.next(line)) {
    if (line.empty()) {
      in_table_ = false;
    } else if (in_table_) {
      read_row(line);
    } else if (!open_table(line)) {
      constexpr uint64_t kLongestPreamble = 100000;
      if (!any_table_ && ++preamble > kLongestPreamble) break;
    }
  }
  if (!any_table_) {
    why = "no line of it is the header of a table of kernels";
    return false;
  }
  if (lines_.long_lines() > 0)
    builder_.warn(std::to_string(lines_.long_lines()) + " lines longer than 4 MiB are left out");
  if (!lines_.ended_in_newline())
    builder_.warn("the last line has no line end; the file may be cut off there (line " +
                  std::to_string(lines_.number()) + ")");
  if (header_.kind == CsvHeader::Kind::kUntimed)
    builder_.warn("the file has no times (rocprof writes them with --timestamp on); only calls are known");
  if (!builder_.trace.events.empty()) builder_.trace.stats.clear();
  return true;
}

}  // namespace

bool read_csv(Input& input, TraceBuilder& builder, std::string& why) {
  return CsvReader(input, builder).read(why);
}

}  // namespace dw::profile
