// Times the CPU mixer ops at the shapes of the 80B model and sets each against what the machine can do, both
// measured here: fused multiply-adds (of the level in use), copy and read bandwidth out of memory.
//   bench_mixers [--json] [--threads N] [--level portable|avx2|avx512] [--only TEXT] [--cpu-time]
// --cpu-time counts the time the calling thread ran, not the time that passed; it sets one thread.
// The least of several runs is printed: on a shared machine the mean measures the neighbours.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/cpu_features.h"
#include "base/random.h"
#include "kernels/cpu/mixers.h"

namespace dw {
namespace {

struct Options {
  bool json = false;
  bool cpu_time = false;
  int threads = physical_core_count();
  CpuLevel level = detect_cpu_level();
  std::string only;
};

double now(bool cpu_time) {
  timespec t{};
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// The least time of one call, over about `budget` seconds.
double least_seconds(bool cpu_time, const std::function<void()>& body, double budget = 0.6) {
  body();
  double least = 1e30, spent = 0;
  for (int i = 0; i < 5 || (spent < budget && i < 20000); ++i) {
    const double start = now(cpu_time);
    body();
    const double t = now(cpu_time) - start;
    least = std::min(least, t);
    spent += t;
    if (spent > 8 * budget) break;
  }
  return least;
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float fma_chain_avx512(int64_t rounds) {
  __m512 x[16];
  for (int j = 0; j < 16; ++j) x[j] = _mm512_set1_ps(1.0f + float(j));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) x[j] = _mm512_fmadd_ps(x[j], a, b);
  }
  float sum = 0;
  for (auto& v : x) sum += _mm512_cvtss_f32(v);
  return sum;
}
__attribute__((target("avx2,fma"))) float fma_chain_avx2(int64_t rounds) {
  __m256 x[12];
  for (int j = 0; j < 12; ++j) x[j] = _mm256_set1_ps(1.0f + float(j));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < 12; ++j) x[j] = _mm256_fmadd_ps(x[j], a, b);
  }
  float sum = 0;
  for (auto& v : x) sum += _mm256_cvtss_f32(v);
  return sum;
}
#endif

// Floating-point operations per second of multiply-adds in registers; portable code: multiply, then add, of
// the baseline's vectors.
double measure_flops(ThreadPool& pool, CpuLevel level, bool cpu_time) {
  constexpr int64_t kRounds = 400000;
  double flops_per_round = 0;
  volatile float sink = 0;
  const auto run = [&] {
    pool.parallel_for(pool.thread_count(), [&](int64_t, int) {
#if defined(__x86_64__)
      if (level == CpuLevel::kAvx512) {
        sink = fma_chain_avx512(kRounds);
        return;
      }
      if (level == CpuLevel::kAvx2) {
        sink = fma_chain_avx2(kRounds);
        return;
      }
#endif
      typedef float Four __attribute__((vector_size(16)));
      Four x[12];
      for (int j = 0; j < 12; ++j) x[j] = Four{1, 2, 3, float(j)};
      // Not known to the compiler, or it would compute the loop itself.
      for (auto& v : x) asm volatile("" : "+m"(v));
      const Four a = {0.999f, 0.999f, 0.999f, 0.999f}, b = {1e-3f, 1e-3f, 1e-3f, 1e-3f};
      for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; ++j) x[j] = x[j] * a + b;
      }
      float sum = 0;
      for (auto& v : x) sum += v[0] + v[1] + v[2] + v[3];
      sink = sum;
    });
  };
  flops_per_round = level == CpuLevel::kAvx512 ? 16 * 16 * 2
                    : level == CpuLevel::kAvx2 ? 12 * 8 * 2
                                               : 12 * 4 * 2;
  return flops_per_round * double(kRounds) * pool.thread_count() / least_seconds(cpu_time, run, 0.3);
}

struct Bandwidth {
  double copy = 0;  // bytes read + bytes written a second
  double read = 0;
};

Bandwidth measure_bandwidth(ThreadPool& pool, bool cpu_time) {
  constexpr int64_t kFloats = 1 << 25, kPieces = 64;  // 128 MiB, past any cache we expect
  std::vector<float> from(kFloats, 1.0f), to(kFloats);
  const int64_t piece = kFloats / kPieces;
  Bandwidth b;
  b.copy = 2.0 * 4 * kFloats /
           least_seconds(
               cpu_time,
               [&] {
                 pool.parallel_for(kPieces, [&](int64_t i, int) {
                   std::memcpy(&to[size_t(i * piece)], &from[size_t(i * piece)], size_t(piece) * 4);
                 });
               },
               0.4);
  std::vector<float> sums(kPieces * 16);
  b.read = 4.0 * kFloats /
           least_seconds(
               cpu_time,
               [&] {
                 pool.parallel_for(kPieces, [&](int64_t i, int) {
                   float lanes[64] = {};
                   const float* x = &from[size_t(i * piece)];
                   for (int64_t j = 0; j < piece; j += 64) {
                     for (int64_t l = 0; l < 64; ++l) lanes[l] += x[j + l];
                   }
                   for (float v : lanes) sums[size_t(i * 16)] += v;
                 });
               },
               0.4);
  return b;
}

struct Row {
  std::string what;
  double seconds = 0;
  std::string unit;  // of rate
  double rate = 0;   // tokens/s or the like
  double flops = 0, bytes = 0;
};

class Report {
 public:
  Report(const Options& options, ThreadPool& pool)
      : options_(options),
        flops_(measure_flops(pool, options.level, options.cpu_time)),
        bandwidth_(measure_bandwidth(pool, options.cpu_time)) {
    const std::string level(cpu_level_name(options.level));
    if (options_.json) {
      std::printf(
          "{\"level\": \"%s\", \"threads\": %d, \"peak_gflops\": %.1f, \"copy_gbs\": %.1f, \"read_gbs\": "
          "%.1f, \"rows\": [",
          level.c_str(), options.threads, flops_ / 1e9, bandwidth_.copy / 1e9, bandwidth_.read / 1e9);
      return;
    }
    std::printf(
        "%s, %d threads: multiply-adds %.1f GFLOP/s, copy %.1f GB/s, read %.1f GB/s (measured here)\n\n",
        level.c_str(), options.threads, flops_ / 1e9, bandwidth_.copy / 1e9, bandwidth_.read / 1e9);
    std::printf("| op | us | rate | GFLOP/s | of peak | GB/s | of copy |\n|---|--:|--:|--:|--:|--:|--:|\n");
  }
  ~Report() {
    if (options_.json) std::printf("\n]}\n");
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;
  bool cpu_time() const { return options_.cpu_time; }
  bool wants(const std::string& what) const { return what.find(options_.only) != std::string::npos; }
  void add(const Row& r) {
    if (options_.json) {
      std::printf(
          "%s\n{\"op\": \"%s\", \"us\": %.3f, \"rate\": %.1f, \"unit\": \"%s\", \"gflops\": %.2f, \"gbs\": "
          "%.2f}",
          first_ ? "" : ",", r.what.c_str(), r.seconds * 1e6, r.rate, r.unit.c_str(),
          r.flops / r.seconds / 1e9, r.bytes / r.seconds / 1e9);
      first_ = false;
      return;
    }
    std::printf("| %s | %.1f | %.0f %s | %.1f | %.0f%% | %.1f | %.0f%% |\n", r.what.c_str(), r.seconds * 1e6,
                r.rate, r.unit.c_str(), r.flops / r.seconds / 1e9, 100 * r.flops / r.seconds / flops_,
                r.bytes / r.seconds / 1e9, 100 * r.bytes / r.seconds / bandwidth_.copy);
    std::fflush(stdout);
  }

 private:
  const Options& options_;
  double flops_;
  Bandwidth bandwidth_;
  bool first_ = true;
};

std::vector<float> normals(Random& random, int64_t count, float deviation = 1.0f) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = deviation * random.uniform(-1.7f, 1.7f);
  return x;
}

struct OwnedActivations {
  std::vector<float> values, scales;
  std::vector<int8_t> quants;
  std::vector<int16_t> sums;
  OwnedActivations(int64_t tokens, int64_t columns)
      : values(size_t(tokens * columns)),
        scales(size_t(tokens * columns / 32)),
        quants(size_t(tokens * columns)),
        sums(size_t(tokens * columns / 16)) {}
  ops::Activations view(int64_t tokens, int64_t columns) {
    return {tokens, columns, values.data(), quants.data(), scales.data(), sums.data()};
  }
};

// The 80B model's mixer: 16 K heads, 32 V heads of 128.
struct DeltaBench {
  static constexpr int64_t kHeads = 32, kDim = 128, kChannels = 2 * 16 * 128 + 32 * 128;
  std::vector<float> qkv, z, ba, conv_weight, dt_bias, a, norm, conv_state, state;
  OwnedActivations out;
  ops::DeltaMixer op;

  DeltaBench(Random& random, int64_t tokens, int64_t layers)
      : qkv(normals(random, tokens * kChannels)),
        z(normals(random, tokens * kHeads * kDim)),
        ba(normals(random, tokens * 2 * kHeads)),
        conv_weight(normals(random, kChannels * 4, 0.5f)),
        dt_bias(normals(random, kHeads)),
        a(size_t(kHeads), -0.1f),
        norm(size_t(kDim), 1.0f),
        conv_state(normals(random, layers * 3 * kChannels)),
        state(size_t(layers * kHeads * kDim * kDim)),
        out(tokens, kHeads * kDim) {
    op.k_heads = 16;
    op.v_heads = 32;
    op.k_dim = op.v_dim = 128;
    op.tokens = tokens;
    op.qkv = qkv.data();
    op.z = z.data();
    op.ba = ba.data();
    op.conv_weight = conv_weight.data();
    op.dt_bias = dt_bias.data();
    op.a = a.data();
    op.norm = norm.data();
    op.conv_state = conv_state.data();
    op.state = state.data();
    op.out = out.view(tokens, kHeads * kDim);
  }
};

void bench_delta_decode(const cpu::Context& context, Report& report) {
  Random random(1);
  for (int64_t layers : {1, 36}) {  // 36 layers: the states, 72 MiB, come from memory every token
    const std::string what = layers == 1 ? "delta decode, state in cache" : "delta decode, 36 layers in turn";
    if (!report.wants(what)) continue;
    DeltaBench bench(random, 1, layers);
    const double seconds = least_seconds(report.cpu_time(), [&] {
      for (int32_t layer = 0; layer < layers; ++layer) {
        const ops::Span span{layer, 0, 1, 0, nullptr};
        bench.op.spans = {&span, 1};
        cpu::delta_mixer(context, bench.op);
      }
    });
    const double elements = DeltaBench::kHeads * DeltaBench::kDim * DeltaBench::kDim;
    report.add(
        {what, seconds / double(layers), "layers/s", double(layers) / seconds, 7 * elements, 8 * elements});
  }
}

void bench_delta_prefill(const cpu::Context& context, Report& report) {
  Random random(2);
  constexpr int64_t kTokens = 512;
  DeltaBench bench(random, kTokens, 1);
  const ops::Span span{0, 0, int32_t(kTokens), 0, nullptr};
  bench.op.spans = {&span, 1};
  for (int32_t chunk : {0, 16, 32, 64, 128}) {
    const std::string what = "delta prefill 512, chunk " + std::to_string(chunk);
    if (!report.wants(what)) continue;
    bench.op.chunk = chunk;
    const double seconds = least_seconds(
        report.cpu_time(), [&] { cpu::delta_mixer(context, bench.op); }, 1.0);
    // Of the delta rule alone: three products with S, and a half of four [chunk, chunk] ones (two of them
    // shared by the two V heads of a K head).
    const double d = DeltaBench::kDim, per_head = chunk == 0 ? 7 * d * d : 6 * d * d + 3 * d * chunk;
    report.add({what, seconds, "tokens/s", kTokens / seconds, kTokens * DeltaBench::kHeads * per_head,
                kTokens * 4.0 * (DeltaBench::kChannels + 2 * DeltaBench::kHeads * DeltaBench::kDim)});
  }
}

// 16 query heads, 2 KV heads of 256, pages of 256 tokens.
void bench_attention(const cpu::Context& context, Report& report, int64_t depth, int64_t tokens,
                     ops::KvType type) {
  const std::string kind = type == ops::KvType::kF16 ? "f16" : "q8_0";
  const std::string what = tokens == 1 ? "attention decode at " + std::to_string(depth) + ", " + kind
                                       : "attention prefill " + std::to_string(tokens) + ", " + kind;
  if (!report.wants(what)) return;
  Random random(3);
  constexpr int64_t kHeads = 16, kKvHeads = 2, kDim = 256, kPage = 256;
  const int64_t length = depth + tokens, pages = (length + kPage - 1) / kPage;
  std::vector<int32_t> page_list;
  for (int64_t i = 0; i < pages; ++i) page_list.push_back(int32_t(i));
  const int64_t row_bytes = ops::kv_row_bytes(type, kDim);
  std::vector<std::byte> k_cache(size_t(pages * kKvHeads * kPage * row_bytes)), v_cache = k_cache;
  const std::vector<float> q_gate = normals(random, tokens * kHeads * 2 * kDim);
  const std::vector<float> k = normals(random, tokens * kKvHeads * kDim), v = k;
  const std::vector<float> ones(size_t(kDim), 1.0f);
  OwnedActivations out(tokens, kHeads * kDim);
  const ops::Span span{0, 0, int32_t(tokens), int32_t(depth), page_list.data()};
  ops::Attention op;
  op.heads = kHeads;
  op.kv_heads = kKvHeads;
  op.key_dim = op.value_dim = kDim;
  op.rope_dims = 64;
  op.scale = 1.0f / 16;
  op.tokens = tokens;
  op.spans = {&span, 1};
  op.q_gate = q_gate.data();
  op.k = k.data();
  op.v = v.data();
  op.q_norm = op.k_norm = ones.data();
  op.kv_type = type;
  op.page_tokens = kPage;
  op.k_cache = k_cache.data();
  op.v_cache = v_cache.data();
  op.out = out.view(tokens, kHeads * kDim);
  const double seconds = least_seconds(
      report.cpu_time(), [&] { cpu::attention(context, op); }, 1.0);
  const double pairs = double(tokens) * double(depth) + double(tokens) * double(tokens + 1) / 2;
  report.add({what, seconds, "tokens/s", double(tokens) / seconds, pairs * kHeads * kDim * 4,
              double(length) * kKvHeads * 2 * double(row_bytes)});
}

void bench_rows(const cpu::Context& context, Report& report) {
  Random random(4);
  for (int64_t tokens : {1, 512}) {
    constexpr int64_t kHidden = 2048, kExperts = 512;
    const std::vector<float> x = normals(random, tokens * kHidden), weight = normals(random, kHidden);
    OwnedActivations out(tokens, kHidden);
    const std::string count = " of " + std::to_string(tokens) + " tokens";
    if (report.wants("norm")) {
      const ops::Norm op{x.data(), nullptr, weight.data(), 1e-6f, out.view(tokens, kHidden)};
      const double seconds = least_seconds(
          report.cpu_time(), [&] { cpu::norm(context, op); }, 0.2);
      report.add({"norm 2048" + count, seconds, "tokens/s", double(tokens) / seconds,
                  double(tokens) * kHidden * 8, double(tokens) * kHidden * 9});
    }
    if (report.wants("route")) {
      std::vector<int32_t> experts(size_t(tokens * 10));
      std::vector<float> weights(size_t(tokens * 10));
      const double seconds = least_seconds(
          report.cpu_time(),
          [&] { cpu::route(context, x.data(), tokens, kExperts, 10, true, experts.data(), weights.data()); },
          0.2);
      report.add({"route 10 of 512" + count, seconds, "tokens/s", double(tokens) / seconds, 0,
                  double(tokens) * kExperts * 4});
    }
    if (report.wants("silu")) {
      const ops::Activations view = out.view(tokens, 512);
      const double seconds = least_seconds(
          report.cpu_time(),
          [&] {
            for (int64_t t = 0; t < tokens; ++t) {
              cpu::silu_multiply(context.level, &x[size_t(t * 1024)], &x[size_t(t * 1024 + 512)], 512, view,
                                 t);
            }
          },
          0.2);
      report.add({"silu multiply 512, one thread" + count, seconds, "rows/s", double(tokens) / seconds, 0,
                  double(tokens) * 512 * 13});
    }
  }
}

int run(const Options& options) {
  ThreadPool pool(options.threads);
  const cpu::Context context{options.level, &pool};
  Report report(options, pool);
  bench_delta_decode(context, report);
  bench_delta_prefill(context, report);
  for (int64_t depth : {4096, 32768}) {
    for (ops::KvType type : {ops::KvType::kF16, ops::KvType::kQ8_0})
      bench_attention(context, report, depth, 1, type);
  }
  bench_attention(context, report, 0, 2048, ops::KvType::kF16);
  bench_attention(context, report, 0, 2048, ops::KvType::kQ8_0);
  bench_rows(context, report);
  return 0;
}

}  // namespace
}  // namespace dw

int main(int argc, char** argv) {
  dw::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const bool has_value = i + 1 < argc;
    if (flag == "--json") {
      options.json = true;
    } else if (flag == "--cpu-time") {
      options.cpu_time = true;
    } else if (flag == "--threads" && has_value && std::atoi(argv[i + 1]) >= 1) {
      options.threads = std::atoi(argv[++i]);
    } else if (flag == "--level" && has_value && dw::parse_cpu_level(argv[i + 1])) {
      options.level = *dw::parse_cpu_level(argv[++i]);
    } else if (flag == "--only" && has_value) {
      options.only = argv[++i];
    } else {
      std::fprintf(stderr,
                   "usage: bench_mixers [--json] [--threads N] [--level portable|avx2|avx512] [--only TEXT] "
                   "[--cpu-time]\n");
      return 2;
    }
  }
  if (options.level > dw::detect_cpu_level()) {
    std::fprintf(stderr, "bench_mixers: this processor has no %s\n",
                 std::string(dw::cpu_level_name(options.level)).c_str());
    return 1;
  }
  if (options.cpu_time) options.threads = 1;
  return dw::run(options);
}
