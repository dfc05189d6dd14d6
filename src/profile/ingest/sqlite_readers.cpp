#include "profile/ingest/sqlite_readers.h"

#include <algorithm>

#include "profile/ingest/readers.h"

namespace dw::profile {

bool ColumnList::has(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

int ColumnList::add(std::initializer_list<std::string_view> names, std::string_view prefix) {
  for (const std::string_view name : names)
    if (has(name)) return add_expression(std::string(prefix) + quoted_name(name));
  return add_expression("NULL");
}

int ColumnList::add_expression(std::string_view expression) {
  if (count_ > 0) text_ += ", ";
  text_ += expression;
  return count_++;
}

bool read_sqlite(const std::string& path, TraceBuilder& builder, std::string& why) {
  auto file = SqliteFile::open(path);
  if (!file) {
    why = file.error().message;
    return false;
  }
  SqliteFile& db = **file;
  const std::vector<std::string> tables = db.tables();
  const bool rocpd = std::any_of(tables.begin(), tables.end(), [](const std::string& name) {
    return name.starts_with("rocpd_kernel_dispatch");
  });
  if (rocpd) {
    read_rocpd(db, builder);
  } else if (db.has("rocpd_op")) {
    read_rpd(db, builder);
  } else if (db.has("StringIds") || db.has("META_DATA_EXPORT") || db.has("CUPTI_ACTIVITY_KIND_KERNEL")) {
    read_nsys(db, builder);
  } else {
    why = "it is a SQLite file without the tables of rocpd, RPD or Nsight Systems";
    return false;
  }
  if (const std::string problem = db.take_problem(); !problem.empty())
    builder.warn("SQLite says '" + problem + "'; what lies behind that place is missing");
  return true;
}

namespace {

// Names by the id that a table gives them; each is interned when it is first used.
class StringIds {
 public:
  StringIds(SqliteFile& file, const std::string& table, const std::string& id, const std::string& value,
            TraceBuilder& builder) {
    SqliteRows rows =
        file.query("SELECT " + quoted_name(id) + ", " + quoted_name(value) + " FROM " + quoted_name(table));
    while (rows.next()) names_[rows.integer(0)] = builder.kernel_name(rows.text(1));
  }
  StringIds() = default;
  // 0: there is none.
  uint32_t operator[](int64_t id) const {
    const auto found = names_.find(id);
    return found == names_.end() ? 0 : found->second;
  }

 private:
  std::unordered_map<int64_t, uint32_t> names_;
};

// ---- Nsight Systems

constexpr uint64_t pid_of(int64_t global) {
  return (uint64_t(global) >> 24) & 0xffffff;
}

class NsysReader {
 public:
  NsysReader(SqliteFile& file, TraceBuilder& builder) : file_(file), builder_(builder) {}
  void read();

 private:
  void read_about();
  void read_kernels(const std::string& table);
  void read_copies(const std::string& table, EventKind kind);
  void check_completeness(const std::string& kernel_table);
  std::string table_like(const std::string& name) const;
  uint32_t name_of(const SqliteRows& rows, int column);
  std::string where() const { return "row " + std::to_string(row_); }
  SqliteFile& file_;
  TraceBuilder& builder_;
  StringIds strings_;
  uint64_t row_ = 0;
};

uint32_t NsysReader::name_of(const SqliteRows& rows, int column) {
  if (rows.is_text(column)) return builder_.kernel_name(rows.text(column));
  return rows.is_null(column) ? 0 : strings_[rows.integer(column)];
}

// Newer versions write CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL in some exports.
std::string NsysReader::table_like(const std::string& name) const {
  if (file_.has(name)) return name;
  const std::string other =
      name == "CUPTI_ACTIVITY_KIND_KERNEL" ? "CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL" : name;
  return file_.has(other) ? other : "";
}

void NsysReader::read_about() {
  builder_.trace.tool = "Nsight Systems";
  if (file_.has("META_DATA_EXPORT")) {
    SqliteRows rows = file_.query("SELECT value FROM META_DATA_EXPORT WHERE name = 'EXPORT_SCHEMA_VERSION'");
    if (rows.next()) builder_.trace.tool += ", export schema " + std::string(rows.text(0));
  }
  if (!file_.has("TARGET_INFO_GPU")) return;
  ColumnList columns(file_, "TARGET_INFO_GPU");
  const int id = columns.add({"id", "cuDevice"}), name = columns.add({"name"}),
            units = columns.add({"smCount"});
  const int major = columns.add({"computeMajor"}), minor = columns.add({"computeMinor"});
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM TARGET_INFO_GPU LIMIT 4096");
  while (rows.next()) {
    TraceDevice device{uint64_t(rows.integer(id)), std::string(rows.text(name)), "",
                       small_count(rows.integer(units))};
    if (!rows.is_null(major))
      device.architecture = "sm_" + std::to_string(rows.integer(major)) + std::to_string(rows.integer(minor));
    builder_.device(device);
  }
}

void NsysReader::read_kernels(const std::string& table) {
  ColumnList columns(file_, table);
  const int start = columns.add({"start"}), end = columns.add({"end"});
  const int full = columns.add({"demangledName"}), brief = columns.add({"shortName", "name"}),
            mangled = columns.add({"mangledName"});
  const int device = columns.add({"deviceId"}), stream = columns.add({"streamId"}),
            pid = columns.add({"globalPid"});
  const int correlation = columns.add({"correlationId"}), node = columns.add({"graphNodeId"});
  const int grid_x = columns.add({"gridX"}), grid_y = columns.add({"gridY"}), grid_z = columns.add({"gridZ"});
  const int block_x = columns.add({"blockX"}), block_y = columns.add({"blockY"}),
            block_z = columns.add({"blockZ"});
  const int registers = columns.add({"registersPerThread"});
  const int fixed = columns.add({"staticSharedMemory"}), dynamic = columns.add({"dynamicSharedMemory"});
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM " + quoted_name(table));
  for (row_ = 1; rows.next(); ++row_) {
    TraceEvent event;
    event.start_ns = rows.integer(start);
    event.end_ns = rows.integer(end);
    event.name = name_of(rows, full);
    if (event.name == 0) event.name = name_of(rows, mangled);
    if (event.name == 0) event.name = name_of(rows, brief);
    if (event.name == 0) builder_.count("kernel has no name", "kernels have no name", where());
    event.in_graph = !rows.is_null(node) && rows.integer(node) != 0;
    event.correlation = builder_.correlation(uint64_t(rows.integer(correlation)));
    event.lane = builder_.lane(
        {pid_of(rows.integer(pid)), uint64_t(rows.integer(device)), 0, uint64_t(rows.integer(stream))});
    Launch launch;
    launch.grid = sizes_of({rows.integer(grid_x), rows.integer(grid_y), rows.integer(grid_z)});
    launch.block = sizes_of({rows.integer(block_x), rows.integer(block_y), rows.integer(block_z)});
    launch.registers = small_count(rows.integer(registers));
    launch.shared_bytes = int64_t(small_count(rows.integer(fixed))) + small_count(rows.integer(dynamic));
    event.launch = builder_.trace.launches.intern(launch);
    builder_.add(event, [&] { return where(); });
  }
}

void NsysReader::read_copies(const std::string& table, EventKind kind) {
  if (!file_.has(table)) return;
  ColumnList columns(file_, table);
  const int start = columns.add({"start"}), end = columns.add({"end"}), bytes = columns.add({"bytes"});
  const int device = columns.add({"deviceId"}), stream = columns.add({"streamId"}),
            pid = columns.add({"globalPid"});
  const int correlation = columns.add({"correlationId"}), node = columns.add({"graphNodeId"}),
            direction = columns.add({"copyKind"});
  static constexpr std::string_view kDirections[] = {"copy",
                                                     "copy host to device",
                                                     "copy device to host",
                                                     "copy host to array",
                                                     "copy array to host",
                                                     "copy array to array",
                                                     "copy array to device",
                                                     "copy device to array",
                                                     "copy device to device",
                                                     "copy host to host",
                                                     "copy peer to peer"};
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM " + quoted_name(table));
  for (row_ = 1; rows.next(); ++row_) {
    TraceEvent event;
    event.kind = kind;
    event.start_ns = rows.integer(start);
    event.end_ns = rows.integer(end);
    const uint64_t which = uint64_t(rows.integer(direction));
    event.name = builder_.trace.names.intern(
        kind == EventKind::kFill ? "fill" : kDirections[which < std::size(kDirections) ? which : 0]);
    event.in_graph = !rows.is_null(node) && rows.integer(node) != 0;
    event.correlation = builder_.correlation(uint64_t(rows.integer(correlation)));
    event.lane = builder_.lane(
        {pid_of(rows.integer(pid)), uint64_t(rows.integer(device)), 0, uint64_t(rows.integer(stream))});
    Launch launch;
    launch.bytes = rows.integer(bytes);
    event.launch = builder_.trace.launches.intern(launch);
    builder_.add(event, [&] { return where(); });
  }
}

void NsysReader::check_completeness(const std::string& kernel_table) {
  if (kernel_table.empty())
    builder_.warn("the file has no table of kernels (Nsight Systems leaves it out when it saw none)");
  if (!file_.has("CUPTI_ACTIVITY_KIND_GRAPH_TRACE")) return;
  SqliteRows rows = file_.query("SELECT COUNT(*) FROM CUPTI_ACTIVITY_KIND_GRAPH_TRACE");
  if (rows.next() && rows.integer(0) > 0)
    builder_.warn(std::to_string(rows.integer(0)) +
                  " graph launches were traced whole: the kernels inside are missing (record with "
                  "--cuda-graph-trace=node)");
}

void NsysReader::read() {
  builder_.trace.format = TraceFormat::kNsysSqlite;
  read_about();
  if (file_.has("StringIds")) strings_ = StringIds(file_, "StringIds", "id", "value", builder_);
  const std::string kernels = table_like("CUPTI_ACTIVITY_KIND_KERNEL");
  if (!kernels.empty()) read_kernels(kernels);
  read_copies("CUPTI_ACTIVITY_KIND_MEMCPY", EventKind::kCopy);
  read_copies("CUPTI_ACTIVITY_KIND_MEMSET", EventKind::kFill);
  check_completeness(kernels);
}

}  // namespace

void read_nsys(SqliteFile& file, TraceBuilder& builder) {
  NsysReader(file, builder).read();
}

// ---- RPD

namespace {

// "KernelExecution", "CopyHostToDevice", "FillBuffer"; empty: barriers, markers and what we do not know.
std::optional<EventKind> rpd_kind(std::string_view type) {
  if (type.find("Kernel") != std::string_view::npos || type.find("kernel") != std::string_view::npos ||
      type == "Task")
    return EventKind::kKernel;
  if (type.find("Copy") != std::string_view::npos || type.starts_with("Memcpy")) return EventKind::kCopy;
  if (type.find("Fill") != std::string_view::npos || type.starts_with("Memset")) return EventKind::kFill;
  return std::nullopt;
}

struct RpdLaunch {
  Launch launch;
  uint32_t name = 0;
};

// By op: the grids, and the names of ops without a description. Kernels of graphs have none of this.
std::unordered_map<int64_t, RpdLaunch> rpd_launches(SqliteFile& file, const StringIds& strings,
                                                    TraceBuilder& builder) {
  std::unordered_map<int64_t, RpdLaunch> launches;
  if (!file.has("rocpd_kernelapi") || !file.has("rocpd_api_ops") || !file.has("rocpd_api")) return launches;
  SqliteRows rows = file.query(
      "SELECT O.op_id, K.gridX, K.gridY, K.gridZ, K.workgroupX, K.workgroupY, K.workgroupZ, "
      "K.groupSegmentSize, "
      "K.privateSegmentSize, K.kernelName_id, A.apiName_id FROM rocpd_api_ops O "
      "JOIN rocpd_kernelapi K ON K.api_ptr_id = O.api_id JOIN rocpd_api A ON A.id = O.api_id");
  while (rows.next()) {
    RpdLaunch found;
    const std::array<int64_t, 3> grid{rows.integer(1), rows.integer(2), rows.integer(3)};
    const std::array<int64_t, 3> block{rows.integer(4), rows.integer(5), rows.integer(6)};
    // hipExtModuleLaunchKernel is the one call that takes its grid in work-items.
    const bool work_items =
        builder.trace.names[strings[rows.integer(10)]].find("hipExtModuleLaunch") != std::string::npos;
    found.launch.grid = work_items ? blocks_of(grid, block) : sizes_of(grid);
    found.launch.block = sizes_of(block);
    found.launch.shared_bytes = rows.integer(7);
    found.launch.scratch_bytes = rows.integer(8);
    found.name = strings[rows.integer(9)];
    launches.emplace(rows.integer(0), found);
  }
  return launches;
}

}  // namespace

void read_rpd(SqliteFile& file, TraceBuilder& builder) {
  builder.trace.format = TraceFormat::kRpd;
  builder.trace.tool = "rocmProfileData";
  const StringIds strings(file, "rocpd_string", "id", "string", builder);
  const auto launches = rpd_launches(file, strings, builder);
  SqliteRows rows =
      file.query("SELECT id, gpuId, queueId, start, \"end\", description_id, opType_id FROM rocpd_op");
  while (rows.next()) {
    const int64_t id = rows.integer(0);
    const auto where = [&] { return "op " + std::to_string(id); };
    const std::string& type = builder.trace.names[strings[rows.integer(6)]];
    const auto kind = rpd_kind(type);
    if (!kind) {
      builder.count("operation is neither kernel, copy nor fill",
                    "operations are neither kernels, copies nor fills", where() + ": " + type);
      continue;
    }
    TraceEvent event;
    event.kind = *kind;
    event.start_ns = rows.integer(3);
    event.end_ns = rows.integer(4);
    event.name = strings[rows.integer(5)];
    event.lane = builder.lane({0, uint64_t(rows.integer(1)), uint64_t(rows.integer(2)), 0});
    const auto launch = launches.find(id);
    if (launch != launches.end()) {
      event.launch = builder.trace.launches.intern(launch->second.launch);
      if (event.name == 0) event.name = launch->second.name;
    }
    if (event.name == 0) event.name = strings[rows.integer(6)];
    builder.add(event, where);
  }
}

}  // namespace dw::profile
