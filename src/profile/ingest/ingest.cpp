#include "profile/ingest/ingest.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "profile/ingest/csv_header.h"
#include "profile/ingest/readers.h"

namespace dw::profile {
namespace {

enum class Family { kSqlite, kJson, kPerfetto, kLog, kCsv };

constexpr std::string_view kSqliteMagic("SQLite format 3\0", 16);
constexpr size_t kHeadBytes = size_t(64) << 10;

bool looks_like_json(std::string_view head) {
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return false;
  if (head[first] == '{') return true;
  const size_t second = head.find_first_not_of(" \t\r\n", first + 1);
  return head[first] == '[' && second != std::string_view::npos &&
         (head[second] == '{' || head[second] == ']');
}

// A length-delimited field 1 whose content begins with a field of a packet; text beginning with a newline and
// such a length is no text.
bool looks_like_perfetto(std::string_view head) {
  if (head.size() < 4 || head[0] != 0x0a) return false;
  size_t at = 1;
  while (at < 6 && at < head.size() && uint8_t(head[at]) >= 0x80) ++at;
  ++at;
  if (at >= head.size()) return false;
  const bool control = head.substr(0, 64).find_first_of(std::string_view(
                           "\0\1\2\3\4\5\6\7\x0e\x10\x12\x18\x1a", 13)) != std::string_view::npos;
  return control && (uint8_t(head[at]) & 7) <= 5;
}

// The text formats are told apart by the first line that is a header or a call.
Family text_family(std::string_view head) {
  CsvRow row;
  while (!head.empty()) {
    const size_t end = head.find('\n');
    const std::string_view line = head.substr(0, end);
    row.split_all(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line);
    if (recognise_header(row)) return Family::kCsv;
    for (const std::string_view mark :
         {"ShaderName : ", "rocblas-bench ", "hipblaslt-bench ", "rocblas_function:"})
      if (line.find(mark) != std::string_view::npos) return Family::kLog;
    if (end == std::string_view::npos) break;
    head.remove_prefix(end + 1);
  }
  return Family::kCsv;
}

Family family_of(std::string_view head) {
  if (head.starts_with(kSqliteMagic)) return Family::kSqlite;
  if (looks_like_json(head)) return Family::kJson;
  if (looks_like_perfetto(head)) return Family::kPerfetto;
  return text_family(head);
}

// A file of our own, removed at the end. It needs a name: SQLite resolves links such as /proc/self/fd/4.
class TemporaryFile {
 public:
  ~TemporaryFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  Expected<void> fill(Input& input) {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string(folder != nullptr && *folder != 0 ? folder : "/tmp") + "/deltawing-XXXXXX";
    fd_ = ::mkostemp(path_.data(), O_CLOEXEC);
    if (fd_ < 0)
      return make_error("cannot make a temporary file to unpack SQLite into: ", std::strerror(errno));
    constexpr uint64_t kLargest = uint64_t(64) << 30;
    while (true) {
      const std::string_view window = input.peek(1);
      if (window.empty()) return {};
      if (input.position() + window.size() > kLargest)
        return make_error("the database is larger than 64 GiB unpacked");
      const ssize_t written = ::write(fd_, window.data(), window.size());
      if (written <= 0) return make_error("cannot write the unpacked database: ", std::strerror(errno));
      input.consume(size_t(written));
    }
  }
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

bool read_database(Input& input, const std::string& path, TraceBuilder& builder, std::string& why) {
  if (!path.empty() && !input.packed()) return read_sqlite(path, builder, why);
  TemporaryFile file;
  if (auto filled = file.fill(input); !filled) {
    why = filled.error().message;
    return false;
  }
  return read_sqlite(file.path(), builder, why);
}

// path: where SQLite can open the file; empty: nowhere.
Expected<Trace> read_input(Input& input, const std::string& path, const std::string& name) {
  TraceBuilder builder;
  std::string why;
  bool read = false;
  const std::string_view head = input.peek(kHeadBytes);
  if (head.empty())
    return make_error(name, " holds no data", input.problem().empty() ? "" : ": ", input.problem());
  switch (family_of(head)) {
    case Family::kSqlite:
      read = read_database(input, path, builder, why);
      break;
    case Family::kJson:
      read = read_json(input, builder, why);
      break;
    case Family::kPerfetto:
      read = read_perfetto(input, builder, why);
      break;
    case Family::kLog:
      read = read_library_log(input, builder, why);
      break;
    case Family::kCsv:
      read = read_csv(input, builder, why);
      break;
  }
  if (!input.problem().empty()) {
    builder.warn(input.problem() + "; what follows is missing");
    why += " (" + input.problem() + ")";
  }
  if (!read)
    return make_error(
        name, " is no trace that can be read: ", why,
        "; known are the outputs of rocprof (v1, v2, v3), rocpd, RPD, Nsight Systems and Compute (SQLite "
        "or CSV), PyTorch, Perfetto, and the logs of rocBLAS and hipBLASLt");
  return builder.finish();
}

}  // namespace

Expected<Trace> read_trace(const std::string& path) {
  auto input = Input::open(path);
  if (!input) return input.error();
  return read_input(*input, path, path);
}

Expected<Trace> read_trace_bytes(std::string_view bytes, const std::string& name) {
  Input input = Input::of_bytes(bytes);
  return read_input(input, "", name);
}

}  // namespace dw::profile
