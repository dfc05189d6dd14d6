// What the columns of a profiler's CSV mean, found by their names (any letter case), never by position.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "profile/ingest/csv_row.h"
#include "profile/ingest/trace.h"

namespace dw::profile {

enum class Column : uint8_t {
  kName,
  kStart,
  kEnd,
  kDuration,
  kKind,
  kDirection,
  kDevice,
  kQueue,
  kStream,
  kProcess,
  kCorrelation,
  kDispatch,
  kGridX,
  kGridY,
  kGridZ,
  kBlockX,
  kBlockY,
  kBlockZ,
  kGridTotal,
  kBlockTotal,
  kLds,
  kDynamicLds,
  kScratch,
  kVgpr,
  kAccumVgpr,
  kSgpr,
  kBytes,
  kCalls,
  kTotal,
  kMin,
  kMax,
  kCounter,
  kMetric,
  kUnit,
  kValue,
  kCount
};

struct CsvHeader {
  enum class Kind : uint8_t { kDispatches, kStarts, kCopies, kSums, kMetrics, kUntimed };
  Kind kind = Kind::kDispatches;
  TraceFormat format = TraceFormat::kRocprofv3Csv;
  size_t columns = 0;
  std::array<int32_t, size_t(Column::kCount)> at;  // -1: not there
  std::array<int, size_t(Column::kCount)> shift;   // powers of ten to ns or bytes
  bool has(Column c) const { return at[size_t(c)] >= 0; }
  size_t name_column() const;
};

// Empty: the row is no header of a table of kernels.
std::optional<CsvHeader> recognise_header(const CsvRow& row);

}  // namespace dw::profile
