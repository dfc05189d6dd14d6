// rocprofv3's SQLite output. Three layouts are known: dispatches with their times and agents (schema
// 3, 3.0.x), with references to tables of times and tracks (the 4.1 tree), and databases of which only the
// views can be used. Tables carry a suffix a process; a merged database holds several sets.
#include <algorithm>

#include "profile/ingest/sqlite_readers.h"

namespace dw::profile {
namespace {

struct Symbol {
  uint32_t name = 0;
  int32_t registers = 0, accumulation_registers = 0, scalar_registers = 0;
};

class RocpdReader {
 public:
  RocpdReader(SqliteFile& file, TraceBuilder& builder) : file_(file), builder_(builder) {}
  void read();

 private:
  void read_about();
  void read_agents(const std::string& suffix);
  void read_symbols(const std::string& suffix);
  bool read_dispatches(const std::string& suffix);
  void read_copies(const std::string& suffix);
  bool read_view();
  // " FROM dispatches D LEFT JOIN ..." and the expressions of what the joins give.
  struct Joined {
    std::string from, start, end, agent, queue, stream;
  };
  Joined join(const std::string& table, const std::string& suffix, const ColumnList& columns) const;
  SqliteFile& file_;
  TraceBuilder& builder_;
  std::unordered_map<int64_t, Symbol> symbols_;   // of the set that is being read
  std::unordered_map<int64_t, uint64_t> agents_;  // id to absolute index
};

void RocpdReader::read_about() {
  builder_.trace.tool = "rocprofv3";
  for (const std::string& table : file_.tables()) {
    if (!table.starts_with("rocpd_metadata")) continue;
    SqliteRows rows =
        file_.query("SELECT value FROM " + quoted_name(table) + " WHERE tag = 'schema_version'");
    if (!rows.next()) continue;
    builder_.trace.tool += ", rocpd schema " + std::string(rows.text(0));
    return;
  }
}

void RocpdReader::read_agents(const std::string& suffix) {
  agents_.clear();
  const std::string table = "rocpd_info_agent" + suffix;
  if (!file_.has(table)) return;
  ColumnList columns(file_, table);
  const int id = columns.add({"id"}), index = columns.add({"absolute_index"}), type = columns.add({"type"});
  const int name = columns.add({"name"}), product = columns.add({"product_name", "model_name"});
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM " + quoted_name(table) + " LIMIT 4096");
  while (rows.next()) {
    const uint64_t absolute = uint64_t(rows.is_null(index) ? rows.integer(id) : rows.integer(index));
    agents_[rows.integer(id)] = absolute;
    if (rows.text(type) != "GPU") continue;
    const std::string gfx(rows.text(name));
    builder_.device({absolute, std::string(rows.text(product)), gfx.starts_with("gfx") ? gfx : "", 0});
  }
}

void RocpdReader::read_symbols(const std::string& suffix) {
  symbols_.clear();
  const std::string table = "rocpd_info_kernel_symbol" + suffix;
  if (!file_.has(table)) return;
  ColumnList columns(file_, table);
  const int id = columns.add({"id"}), display = columns.add({"display_name"}),
            name = columns.add({"kernel_name"});
  const int vgpr = columns.add({"arch_vgpr_count"}), accum = columns.add({"accum_vgpr_count"}),
            sgpr = columns.add({"sgpr_count"});
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM " + quoted_name(table));
  while (rows.next()) {
    Symbol& symbol = symbols_[rows.integer(id)];
    symbol.name = builder_.kernel_name(rows.text(display));
    if (symbol.name == 0) symbol.name = builder_.kernel_name(rows.text(name));
    symbol.registers = small_count(rows.integer(vgpr));
    symbol.accumulation_registers = small_count(rows.integer(accum));
    symbol.scalar_registers = small_count(rows.integer(sgpr));
  }
}

RocpdReader::Joined RocpdReader::join(const std::string& table, const std::string& suffix,
                                      const ColumnList& columns) const {
  Joined joined;
  joined.from = " FROM " + quoted_name(table) + " D";
  const std::string times = "rocpd_timestamp" + suffix, tracks = "rocpd_track" + suffix,
                    events = "rocpd_event" + suffix;
  if (columns.has("start") && columns.has("end")) {
    joined.start = "D.\"start\"";
    joined.end = "D.\"end\"";
  } else if (columns.has("start_id") && columns.has("end_id") && file_.has(times)) {
    joined.start = "S.value";
    joined.end = "E.value";
    joined.from += " LEFT JOIN " + quoted_name(times) + " S ON S.id = D.start_id LEFT JOIN " +
                   quoted_name(times) + " E ON E.id = D.end_id";
  }
  const bool track = !columns.has("agent_id") && columns.has("track_id") && file_.has(tracks);
  if (track) joined.from += " LEFT JOIN " + quoted_name(tracks) + " T ON T.id = D.track_id";
  const auto owner = [&](std::string_view column) -> std::string {
    if (columns.has(column)) return "D." + std::string(column);
    return track ? "T." + std::string(column) : "NULL";
  };
  joined.agent = columns.has("dst_agent_id") ? "D.dst_agent_id" : owner("agent_id");
  joined.queue = owner("queue_id");
  joined.stream = owner("stream_id");
  return joined;
}

bool RocpdReader::read_dispatches(const std::string& suffix) {
  const std::string table = "rocpd_kernel_dispatch" + suffix;
  ColumnList columns(file_, table);
  const Joined joined = join(table, suffix, columns);
  if (joined.start.empty() || !columns.has("kernel_id") || symbols_.empty()) return false;
  const int start = columns.add_expression(joined.start), end = columns.add_expression(joined.end);
  const int agent = columns.add_expression(joined.agent), queue = columns.add_expression(joined.queue);
  const int stream = columns.add_expression(joined.stream);
  const int kernel = columns.add({"kernel_id"}, "D."), pid = columns.add({"pid"}, "D.");
  const int lds = columns.add({"group_segment_size"}, "D."),
            scratch = columns.add({"private_segment_size"}, "D.");
  const int block_x = columns.add({"workgroup_size_x"}, "D."),
            block_y = columns.add({"workgroup_size_y"}, "D."),
            block_z = columns.add({"workgroup_size_z"}, "D.");
  const int grid_x = columns.add({"grid_size_x"}, "D."), grid_y = columns.add({"grid_size_y"}, "D."),
            grid_z = columns.add({"grid_size_z"}, "D.");
  const int node = columns.add({"graph_node_id"}, "D."), dispatch = columns.add({"dispatch_id"}, "D.");
  SqliteRows rows = file_.query("SELECT " + columns.text() + joined.from);
  while (rows.next()) {
    const auto where = [&] { return "dispatch " + std::to_string(rows.integer(dispatch)); };
    TraceEvent event;
    event.start_ns = rows.integer(start);
    event.end_ns = rows.integer(end);
    const auto symbol = symbols_.find(rows.integer(kernel));
    Launch launch;
    if (symbol != symbols_.end()) {
      event.name = symbol->second.name;
      launch.registers = symbol->second.registers;
      launch.accumulation_registers = symbol->second.accumulation_registers;
      launch.scalar_registers = symbol->second.scalar_registers;
    }
    if (event.name == 0) builder_.count("kernel has no name", "kernels have no name", where());
    const std::array<int64_t, 3> block{rows.integer(block_x), rows.integer(block_y), rows.integer(block_z)};
    launch.block = sizes_of(block);
    launch.grid = blocks_of({rows.integer(grid_x), rows.integer(grid_y), rows.integer(grid_z)}, block);
    launch.shared_bytes = rows.integer(lds);
    launch.scratch_bytes = rows.integer(scratch);
    event.launch = builder_.trace.launches.intern(launch);
    event.in_graph = !rows.is_null(node) && rows.integer(node) != 0;
    const auto known = agents_.find(rows.integer(agent));
    event.lane = builder_.lane({uint64_t(rows.integer(pid)),
                                known != agents_.end() ? known->second : uint64_t(rows.integer(agent)),
                                uint64_t(rows.integer(queue)), uint64_t(rows.integer(stream))});
    builder_.add(event, where);
  }
  return true;
}

void RocpdReader::read_copies(const std::string& suffix) {
  const std::string table = "rocpd_memory_copy" + suffix, strings = "rocpd_string" + suffix;
  if (!file_.has(table)) return;
  ColumnList columns(file_, table);
  Joined joined = join(table, suffix, columns);
  if (joined.start.empty()) return;
  const bool named = columns.has("name_id") && file_.has(strings);
  if (named) joined.from += " LEFT JOIN " + quoted_name(strings) + " N ON N.id = D.name_id";
  const int start = columns.add_expression(joined.start), end = columns.add_expression(joined.end);
  const int agent = columns.add_expression(joined.agent), queue = columns.add_expression(joined.queue);
  const int stream = columns.add_expression(joined.stream), size = columns.add({"size"}, "D.");
  const int name = columns.add_expression(named ? "N.string" : "NULL");
  SqliteRows rows = file_.query("SELECT " + columns.text() + joined.from);
  uint64_t row = 0;
  while (rows.next()) {
    ++row;
    TraceEvent event;
    event.kind = EventKind::kCopy;
    event.start_ns = rows.integer(start);
    event.end_ns = rows.integer(end);
    event.name = builder_.trace.names.intern(rows.is_null(name) ? "memory copy" : rows.text(name));
    Launch launch;
    launch.bytes = rows.integer(size);
    event.launch = builder_.trace.launches.intern(launch);
    const auto known = agents_.find(rows.integer(agent));
    event.lane = builder_.lane({0, known != agents_.end() ? known->second : uint64_t(rows.integer(agent)),
                                uint64_t(rows.integer(queue)), uint64_t(rows.integer(stream))});
    builder_.add(event, [&] { return "copy " + std::to_string(row); });
  }
}

bool RocpdReader::read_view() {
  if (!file_.has("kernels")) return false;
  ColumnList columns(file_, "kernels");
  if (!columns.has("name") || !columns.has("start") || !columns.has("end")) return false;
  const int start = columns.add({"start"}), end = columns.add({"end"}), name = columns.add({"name"});
  const int agent = columns.add({"agent_abs_index", "agent_absolute_index", "agent_id"}),
            queue = columns.add({"queue_id"});
  const int stream = columns.add({"stream_id"}), pid = columns.add({"pid"});
  const int grid_x = columns.add({"grid_x"}), grid_y = columns.add({"grid_y"}),
            grid_z = columns.add({"grid_z"});
  const int block_x = columns.add({"workgroup_x"}), block_y = columns.add({"workgroup_y"}),
            block_z = columns.add({"workgroup_z"});
  const int lds = columns.add({"lds_size"}), scratch = columns.add({"scratch_size"});
  const int vgpr = columns.add({"vgpr_count", "arch_vgpr_count"}), accum = columns.add({"accum_vgpr_count"}),
            sgpr = columns.add({"sgpr_count"});
  SqliteRows rows = file_.query("SELECT " + columns.text() + " FROM kernels");
  uint64_t row = 0;
  while (rows.next()) {
    ++row;
    TraceEvent event;
    event.start_ns = rows.integer(start);
    event.end_ns = rows.integer(end);
    event.name = builder_.kernel_name(rows.text(name));
    Launch launch;
    const std::array<int64_t, 3> block{rows.integer(block_x), rows.integer(block_y), rows.integer(block_z)};
    launch.block = sizes_of(block);
    launch.grid = blocks_of({rows.integer(grid_x), rows.integer(grid_y), rows.integer(grid_z)}, block);
    launch.shared_bytes = rows.integer(lds);
    launch.scratch_bytes = rows.integer(scratch);
    launch.registers = small_count(rows.integer(vgpr));
    launch.accumulation_registers = small_count(rows.integer(accum));
    launch.scalar_registers = small_count(rows.integer(sgpr));
    event.launch = builder_.trace.launches.intern(launch);
    event.lane = builder_.lane({uint64_t(rows.integer(pid)), uint64_t(rows.integer(agent)),
                                uint64_t(rows.integer(queue)), uint64_t(rows.integer(stream))});
    builder_.add(event, [&] { return "row " + std::to_string(row); });
  }
  return true;
}

void RocpdReader::read() {
  builder_.trace.format = TraceFormat::kRocpd;
  read_about();
  // Tables with a suffix, or plain ones; where both exist the plain ones are views of the former.
  std::vector<std::string> suffixes;
  constexpr std::string_view kDispatch = "rocpd_kernel_dispatch";
  for (const std::string& table : file_.tables())
    if (table.starts_with(kDispatch) && table.size() > kDispatch.size())
      suffixes.push_back(table.substr(kDispatch.size()));
  if (suffixes.empty()) suffixes.emplace_back();
  bool any = false;
  for (const std::string& suffix : suffixes) {
    read_agents(suffix);
    read_symbols(suffix);
    any |= read_dispatches(suffix);
    read_copies(suffix);
  }
  if (!any && !read_view())
    builder_.warn("its tables have none of the known layouts; no kernels could be read");
}

}  // namespace

void read_rocpd(SqliteFile& file, TraceBuilder& builder) {
  RocpdReader(file, builder).read();
}

}  // namespace dw::profile
