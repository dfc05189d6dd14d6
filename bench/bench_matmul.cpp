// Matrix kernels of the CPU: one token (bytes of weights per second, against the read bandwidth measured
// first) and many tokens (multiply-adds per second, against the peak of the integer dot instruction).
//   bench_matmul [--types Q4_K,Q6_K] [--threads 1,2] [--tokens 1,10,32] [--level avx512] [--mib 512]
//                [--rows 2048] [--columns 2048] [--task-rows 64] [--seconds 0.5]
//                [--json]
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "base/thread_pool.h"
#include "kernels/cpu/matmul.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using namespace dw;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Options {
  std::vector<std::string> types;
  std::vector<int> threads;
  std::vector<int> tokens = {1, 10, 32, 128, 512};
  CpuLevel level = detect_cpu_level();
  int64_t mib = 512, rows = 2048, columns = 2048, task_rows = 64;
  double seconds = 0.5;
  bool json = false;
};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts;
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    parts.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

std::vector<int> split_numbers(std::string_view list) {
  std::vector<int> numbers;
  for (const auto& part : split(list)) numbers.push_back(std::max(1, std::atoi(part.c_str())));
  return numbers;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--json") {
      options.json = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (flag == "--types")
      options.types = split(value);
    else if (flag == "--threads")
      options.threads = split_numbers(value);
    else if (flag == "--tokens")
      options.tokens = split_numbers(value);
    else if (flag == "--mib")
      options.mib = std::max(1, std::atoi(value));
    else if (flag == "--rows")
      options.rows = std::max(1, std::atoi(value));
    else if (flag == "--task-rows")
      options.task_rows = std::max(16, std::atoi(value) / 16 * 16);
    else if (flag == "--columns")
      options.columns = std::max(1, std::atoi(value));
    else if (flag == "--seconds")
      options.seconds = std::atof(value);
    else if (flag == "--level" && parse_cpu_level(value))
      options.level = *parse_cpu_level(value);
    else
      return false;
  }
  return true;
}

// Weights larger than any cache, page-aligned, filled with repeated random bytes.
class Weights {
 public:
  explicit Weights(size_t size) : size_(size) {
    void* address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
      std::fprintf(stderr, "bench_matmul: no memory for %zu bytes of weights; use a smaller --mib\n", size);
      std::exit(1);
    }
    data_ = static_cast<std::byte*>(address);
    Random random(1);
    const size_t pattern = std::min<size_t>(size, 1 << 20);
    // Bits that keep every binary16 a normal number of modest size.
    for (size_t i = 0; i < pattern; ++i) data_[i] = std::byte(uint8_t((random.next() >> 24) & 0xaf) | 0x10);
    for (size_t at = pattern; at < size; at += pattern)
      std::memcpy(data_ + at, data_, std::min(pattern, size - at));
  }
  ~Weights() { munmap(data_, size_); }
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_;
  size_t size_;
};

// Runs parts 0 .. count-1 over and over, for `seconds` or 3 times; the sum of each part's shortest time:
// other programs on the machine disturb parts, seldom the same part each time.
double best_seconds(double seconds, int64_t count, const std::function<void(int64_t)>& part) {
  std::vector<double> best(static_cast<size_t>(count), 1e30);
  const double end = now() + seconds;
  for (int round = 0; round < 3 || now() < end; ++round)
    for (int64_t i = 0; i < count; ++i) {
      const double begin = now();
      part(i);
      best[size_t(i)] = std::min(best[size_t(i)], now() - begin);
    }
  double sum = 0;
  for (double time : best) sum += time;
  return sum;
}

uint64_t sum_words(const std::byte* data, size_t size) {
  uint64_t sums[16] = {};
  for (size_t at = 0; at + 128 <= size; at += 128)
    for (int i = 0; i < 16; ++i) {
      uint64_t word;
      std::memcpy(&word, data + at + 8 * i, 8);
      sums[i] += word;
    }
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

double read_bandwidth(ThreadPool& pool, const Weights& weights, double seconds) {
  constexpr size_t kPart = 4 << 20, kTask = 256 << 10;
  const int64_t parts = int64_t(std::max(weights.size(), kPart) / kPart);
  std::vector<uint64_t> sums(kPart / kTask);
  const double time = best_seconds(seconds, parts, [&](int64_t part) {
    pool.parallel_for(int64_t(kPart / kTask), [&](int64_t task, int) {
      sums[size_t(task)] += sum_words(weights.data() + size_t(part) * kPart + size_t(task) * kTask, kTask);
    });
  });
  if (sums[0] == 42) std::puts("");  // keeps the sums
  return double(parts) * double(kPart) / time;
}

#if defined(__x86_64__)
// Ten independent chains of the integer dot instruction.
void dot_loop(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(
        "vpdpbusd %%zmm30, %%zmm31, %%zmm16\n\tvpdpbusd %%zmm30, %%zmm31, %%zmm17\n\t"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm18\n\tvpdpbusd %%zmm30, %%zmm31, %%zmm19\n\t"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm20\n\tvpdpbusd %%zmm30, %%zmm31, %%zmm21\n\t"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm22\n\tvpdpbusd %%zmm30, %%zmm31, %%zmm23\n\t"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm24\n\tvpdpbusd %%zmm30, %%zmm31, %%zmm25" ::
            : "memory");  // zmm16..31 are not used by code compiled without AVX-512
}
#endif

// Multiply-adds per second of one core; 0 where the level has no such instruction.
double dot_peak(CpuLevel level) {
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) {
    constexpr int64_t kRounds = 20000;
    return double(kRounds) * 10 * 64 / best_seconds(0.05, 1, [](int64_t) { dot_loop(kRounds); });
  }
#endif
  static_cast<void>(level);
  return 0;
}

struct Result {
  std::string type;
  int threads = 0, tokens = 0;
  double gigabytes = 0, gigamacs = 0;  // per second
  double bandwidth_share = 0, peak_share = 0;
};

// One pass multiplies each matrix of the weights once; rows are cut into tasks.
Result measure(const Options& options, const quant::TypeInfo& info, ThreadPool& pool, const Weights& weights,
               int tokens) {
  const int64_t rows = options.rows, columns = options.columns;
  ops::Matrix matrix{info.type, weights.data(), rows, columns, 1};
  matrix.count = std::max<int64_t>(1, int64_t(weights.size() / matrix.matrix_bytes()));
  if (tokens > 1) matrix.count = std::min<int64_t>(matrix.count, std::max(1, 64 / tokens));
  std::vector<float> values(size_t(tokens * columns)), out(size_t(tokens * rows));
  std::vector<int8_t> quants(values.size());
  std::vector<float> scales(values.size() / 32);
  std::vector<int16_t> sums(values.size() / 16);
  Random random(2);
  for (auto& value : values) value = random.normal();
  for (int64_t t = 0; t < tokens; ++t)
    cpu::quantize_activations(options.level, values.data() + t * columns, columns,
                              quants.data() + t * columns, scales.data() + t * columns / 32,
                              sums.data() + t * columns / 16);
  cpu::MatmulCall call;
  call.x = {tokens, columns, values.data(), quants.data(), scales.data(), sums.data()};
  call.token_count = tokens;
  call.out = out.data();
  call.out_stride = rows;
  const int64_t task_rows = options.task_rows;
  const int64_t tasks = (rows + task_rows - 1) / task_rows;
  const double time = best_seconds(options.seconds, matrix.count, [&](int64_t e) {
    call.weight = matrix.expert(e);
    pool.parallel_for(tasks, [&](int64_t task, int) {
      cpu::matmul_rows(options.level, call, task * task_rows, std::min(rows, (task + 1) * task_rows));
    });
  });
  Result result;
  result.type = info.name;
  result.threads = pool.thread_count();
  result.tokens = tokens;
  result.gigabytes = double(matrix.matrix_bytes()) * double(matrix.count) / time / 1e9;
  result.gigamacs = double(rows * columns * tokens * matrix.count) / time / 1e9;
  return result;
}

void print(const Options& options, const Result& result) {
  if (options.json)
    std::printf(
        "{\"type\":\"%s\",\"threads\":%d,\"tokens\":%d,\"gigabytes_per_second\":%.2f,"
        "\"bandwidth_share\":%.4f,\"gigamacs_per_second\":%.2f,\"dot_peak_share\":%.4f}\n",
        result.type.c_str(), result.threads, result.tokens, result.gigabytes, result.bandwidth_share,
        result.gigamacs, result.peak_share);
  else
    std::printf("| %-7s | %d | %3d | %6.2f | %5.1f %% | %7.1f | %5.1f %% |\n", result.type.c_str(),
                result.threads, result.tokens, result.gigabytes, 100 * result.bandwidth_share,
                result.gigamacs, 100 * result.peak_share);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: bench_matmul [--types A,B] [--threads 1,2] [--tokens 1,10,32] [--level avx512]\n"
                 "                    [--mib 512] [--rows 2048] [--columns 2048] [--task-rows 64] [--seconds "
                 "0.5] [--json]\n");
    return 2;
  }
  if (options.threads.empty())
    for (int n = 1; n <= physical_core_count(); n *= 2) options.threads.push_back(n);
  if (options.types.empty())
    for (const auto& info : quant::all_types())
      if (info.dequantize != nullptr) options.types.emplace_back(info.name);
  const Weights weights(size_t(options.mib) << 20);
  for (int threads : options.threads) {
    ThreadPool pool(threads);
    const double bandwidth = read_bandwidth(pool, weights, options.seconds);
    const double peak = dot_peak(options.level) * threads;
    if (!options.json)
      std::printf(
          "\n%s, %d thread(s): reads %.1f GB/s; integer dot peak %.0f GMAC/s\n\n"
          "| type | threads | tokens | GB/s | of reads | GMAC/s | of peak |\n|---|---|---|---|---|---|---|\n",
          std::string(cpu_level_name(options.level)).c_str(), threads, bandwidth / 1e9, peak / 1e9);
    for (const auto& name : options.types) {
      const quant::TypeInfo* info = quant::find_type(name);
      if (info == nullptr || info->dequantize == nullptr || options.columns % info->block_size != 0) {
        std::fprintf(stderr, "bench_matmul: type %s is unknown or does not divide %lld columns\n",
                     name.c_str(), static_cast<long long>(options.columns));
        return 2;
      }
      for (int tokens : options.tokens) {
        Result result = measure(options, *info, pool, weights, tokens);
        result.bandwidth_share = result.gigabytes * 1e9 / bandwidth;
        result.peak_share = peak > 0 ? result.gigamacs * 1e9 / peak : 0;
        print(options, result);
      }
    }
  }
  return 0;
}
