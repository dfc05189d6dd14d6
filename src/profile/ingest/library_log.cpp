// Logs of the AMD libraries: lines of rocblas-bench (ROCBLAS_LAYER=2) and hipblaslt-bench
// (HIPBLASLT_LOG_MASK=32), the profile of ROCBLAS_LAYER=4 and HIPBLASLT_LOG_MASK=64 (one YAML map a line,
// with call_count), and the kernels' names of AMD_LOG_LEVEL=3 ("ShaderName : ..."). A name that follows a
// product is taken as its kernel.
#include <vector>

#include "profile/ingest/number.h"
#include "profile/ingest/readers.h"

namespace dw::profile {
namespace {

constexpr std::string_view kShader = "ShaderName : ";

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> out;
  size_t at = 0;
  constexpr size_t kMostWords = 256;
  while (at < line.size() && out.size() < kMostWords) {
    at = line.find_first_not_of(" \t\"'", at);
    if (at == std::string_view::npos) break;
    const size_t end = std::min(line.find_first_of(" \t\"'", at), line.size());
    out.push_back(line.substr(at, end - at));
    at = end;
  }
  return out;
}

char transposition(std::string_view value) {
  return value.empty() ? 'N' : value[0] >= 'a' ? char(value[0] - ('a' - 'A')) : value[0];
}

// False: a value is no number.
bool set_field(GemmCall& call, std::string_view key, std::string_view value) {
  int64_t* number = nullptr;
  if (key == "m" || key == "M" || key == "sizem") number = &call.m;
  if (key == "n" || key == "N" || key == "sizen") number = &call.n;
  if (key == "k" || key == "K" || key == "sizek") number = &call.k;
  if (key == "batch_count") number = &call.batch;
  if (key == "solution_index") number = &call.solution;
  if (key == "call_count") number = &call.calls;
  if (number != nullptr) {
    const auto parsed = parse_integer(value);
    if (!parsed || (*parsed < 0 && number != &call.solution)) return false;
    *number = *parsed;
  }
  if (key == "transposeA" || key == "transA") call.trans_a = transposition(value);
  if (key == "transposeB" || key == "transB") call.trans_b = transposition(value);
  if (key == "f" || key == "function" || key == "rocblas_function")
    call.function = std::string(value.substr(0, 64));
  if (key == "a_type" || key == "r" || key == "precision") call.type_a = std::string(value.substr(0, 16));
  if (key == "b_type") call.type_b = std::string(value.substr(0, 16));
  if (key == "c_type") call.type_c = std::string(value.substr(0, 16));
  if (key == "compute_type") call.type_compute = std::string(value.substr(0, 16));
  return true;
}

class LogReader {
 public:
  LogReader(Input& input, TraceBuilder& builder) : lines_(input), builder_(builder) {}
  bool read(std::string& why);

 private:
  void read_line(std::string_view line);
  void read_bench(std::string_view line, const char* function);
  void read_profile(std::string_view line);
  void read_shader(std::string_view name);
  void keep(const GemmCall& call, bool whole);
  LineReader lines_;
  TraceBuilder& builder_;
  bool waiting_ = false;  // the last product has no kernel yet
};

void LogReader::keep(const GemmCall& call, bool whole) {
  if (!whole || call.m <= 0 || call.n <= 0) {
    builder_.count("call has no sizes or damaged ones and is left out",
                   "calls have no sizes or damaged ones and are left out",
                   "line " + std::to_string(lines_.number()));
    return;
  }
  builder_.trace.gemms.push_back(call);
}

void LogReader::read_bench(std::string_view line, const char* function) {
  const std::vector<std::string_view> parts = words(line);
  GemmCall call;
  call.function = function;
  bool whole = true;
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    if (!parts[i].starts_with('-')) continue;
    whole &= set_field(call,
                       parts[i].substr(parts[i].find_first_not_of('-') == std::string_view::npos
                                           ? 0
                                           : parts[i].find_first_not_of('-')),
                       parts[i + 1]);
  }
  const bool product = call.function.find("gemm") != std::string::npos || call.function == "matmul";
  if (!product) return;  // gemv, scal, ...: no matrix product
  keep(call, whole && (lines_.ended_in_newline() || call.k > 0));
  waiting_ = true;
}

// - { rocblas_function: "rocblas_gemm_ex", transA: 'N', ..., M: 64, call_count: 3 }
void LogReader::read_profile(std::string_view line) {
  GemmCall call;
  call.function = "";
  bool whole = line.find('}') != std::string_view::npos;
  const std::vector<std::string_view> parts = words(line);
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    if (!parts[i].ends_with(':')) continue;
    std::string_view value = parts[i + 1];
    while (value.ends_with(',') || value.ends_with('}')) value.remove_suffix(1);
    whole &= set_field(call, parts[i].substr(0, parts[i].size() - 1), value);
  }
  if (call.function.find("gemm") != std::string::npos || call.function.find("matmul") != std::string::npos)
    keep(call, whole);
}

void LogReader::read_shader(std::string_view name) {
  while (name.ends_with(' ')) name.remove_suffix(1);
  const uint32_t id = builder_.kernel_name(name);
  builder_.add_stat(id, 1, 0, 0, 0);
  if (waiting_ && name.starts_with("Cijk_") && !builder_.trace.gemms.empty()) {
    builder_.trace.gemms.back().kernel = id;
    waiting_ = false;
  }
}

void LogReader::read_line(std::string_view line) {
  if (const size_t at = line.find(kShader); at != std::string_view::npos)
    return read_shader(line.substr(at + kShader.size()));
  if (const size_t at = line.find("rocblas-bench "); at != std::string_view::npos)
    return read_bench(line.substr(at), "");
  if (const size_t at = line.find("hipblaslt-bench "); at != std::string_view::npos)
    return read_bench(line.substr(at), "matmul");
  if (line.find("function:") != std::string_view::npos && line.find('{') != std::string_view::npos)
    read_profile(line);
}

bool LogReader::read(std::string& why) {
  builder_.trace.format = TraceFormat::kLibraryLog;
  builder_.trace.tool = "AMD library log";
  std::string_view line;
  while (lines_.next(line)) read_line(line);
  if (builder_.trace.gemms.empty() && builder_.trace.stats.empty()) {
    why = "its log holds no matrix product and no kernel name";
    return false;
  }
  if (!builder_.trace.stats.empty())
    builder_.warn("the log has the names and the order of the kernels, not their times on the GPU");
  if (!lines_.ended_in_newline())
    builder_.warn("the last line has no line end; the log may be cut off there (line " +
                  std::to_string(lines_.number()) + ")");
  if (lines_.long_lines() > 0)
    builder_.warn(std::to_string(lines_.long_lines()) + " lines longer than 4 MiB are left out");
  return true;
}

}  // namespace

bool read_library_log(Input& input, TraceBuilder& builder, std::string& why) {
  return LogReader(input, builder).read(why);
}

}  // namespace dw::profile
