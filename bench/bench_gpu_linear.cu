// Matrix-vector products and decode experts of the GPU: time of a launch inside a replayed graph whose
// launches overlap as a token's do, over weights that rotate through more memory than the caches hold.
//   bench_gpu_linear [--types Q4_K,Q6_K] [--tokens 1,2,4,8] [--shapes 8192x2048,2048x4096] [--norm]
//                    [--experts TYPE] [--gemm TOKENS]
// Prints md tables: us a launch, GB/s of weights, and their share of what a plain read kernel reaches.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "gpu_bench.h"
#include "kernels/gpu/internal.h"

namespace {

using namespace dw;
using namespace dw::bench;

struct Shape {
  int64_t rows, columns;
};

void bench_linear(Bench& bench, quant::Type type, Shape shape, int64_t tokens, bool with_norm, bool gemm) {
  const ops::Matrix first = bench.next_matrix(type, shape.rows, shape.columns);
  const double bytes = double(first.matrix_bytes());
  const int launches = int(std::clamp(4e8 / bytes, 3.0, 100.0));
  const ops::Activations x = bench.activations(tokens, shape.columns);
  float* out = device_zeros<float>(size_t(tokens * shape.rows));
  ops::Norm norm;
  norm.x = device_zeros<float>(size_t(tokens * shape.columns));
  norm.weight = device_zeros<float>(size_t(shape.columns));
  norm.out = x;
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < launches; ++i) {
      const ops::Linear call[] = {
          {bench.next_matrix(type, shape.rows, shape.columns), out, shape.rows, false}};
      if (gemm)
        gpu::gemm_dot4(bench.context, x, call[0]);
      else
        gpu::gemv(bench.context, x, call, with_norm ? &norm : nullptr);
    }
  });
  const std::string name = std::string(quant::type_info(type).name) + " " + std::to_string(shape.rows) + "x" +
                           std::to_string(shape.columns) + (with_norm ? " + norm" : "");
  bench.row(name.c_str(), tokens, seconds / launches, bytes);
  for (void* p : {(void*)x.values, (void*)x.quants, (void*)x.scales, (void*)x.sums, (void*)out, (void*)norm.x,
                  (void*)norm.weight})
    cudaFree(p);
}

// Experts of Qwen3-Next's sizes: hidden 2048, width 512, 10 of them and a shared one.
void bench_experts(Bench& bench, quant::Type gate_up, quant::Type down, int64_t tokens) {
  const int64_t hidden = 2048, width = 512;
  constexpr int kTopK = 10, kExperts = 128;
  const ops::Activations x = bench.activations(tokens, hidden);
  float* out = device_zeros<float>(size_t(tokens * hidden));
  float* scratch = device_zeros<float>(size_t(tokens * (kTopK + 1) * width));
  std::vector<int32_t> ids;
  std::mt19937 random(7);
  for (int i = 0; i < tokens * kTopK; ++i) ids.push_back(int32_t(random() % kExperts));
  const int32_t* device_ids = device_copy(ids.data(), ids.size());
  const float* weights = device_zeros<float>(ids.size());
  const float* shared_weight = device_zeros<float>(size_t(tokens));
  double bytes = 0;
  const int launches = 40;
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < launches; ++i) {
      ops::Moe op;
      op.expert_count = kExperts, op.top_k = kTopK;
      op.x = x;
      op.gate = bench.next_matrix(gate_up, width, hidden, kExperts);
      op.up = bench.next_matrix(gate_up, width, hidden, kExperts);
      op.down = bench.next_matrix(down, hidden, width, kExperts);
      op.shared_gate = bench.next_matrix(gate_up, width, hidden);
      op.shared_up = bench.next_matrix(gate_up, width, hidden);
      op.shared_down = bench.next_matrix(down, hidden, width);
      op.out = out;
      bytes = double(tokens) * (kTopK + 1) *
              double(op.gate.matrix_bytes() + op.up.matrix_bytes() + op.down.matrix_bytes());
      gpu::moe_decode(bench.context, op, {device_ids, weights, shared_weight}, scratch);
    }
  });
  const std::string name = "experts " + std::string(quant::type_info(gate_up).name) + " / " +
                           std::string(quant::type_info(down).name) + " (2 launches)";
  bench.row(name.c_str(), tokens, seconds / launches, bytes);
  for (const void* p : {(const void*)x.values, (const void*)x.quants, (const void*)x.scales,
                        (const void*)x.sums, (const void*)out, (const void*)scratch, (const void*)device_ids,
                        (const void*)weights, (const void*)shared_weight})
    cudaFree(const_cast<void*>(p));
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

struct Options {
  std::vector<std::string> types = {"Q4_K"}, shapes = {"8192x2048"};
  std::vector<int64_t> tokens = {1, 2, 4, 8};
  std::vector<std::string> experts;  // "Q4_K/Q6_K"
  bool norm = false, gemm = false;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--norm") {
      options.norm = true;
    } else if (flag == "--gemm") {
      options.gemm = true;
    } else if (i + 1 < argc) {
      const std::vector<std::string> values = split(argv[++i]);
      if (flag == "--types")
        options.types = values;
      else if (flag == "--shapes")
        options.shapes = values;
      else if (flag == "--experts")
        options.experts = values;
      else if (flag == "--tokens") {
        options.tokens.clear();
        for (const auto& v : values) options.tokens.push_back(std::atoll(v.c_str()));
      } else
        return false;
    } else {
      return false;
    }
  }
  return true;
}

quant::Type type_of(const std::string& name) {
  const quant::TypeInfo* info = quant::find_type(name);
  if (info == nullptr) {
    std::fprintf(stderr, "unknown type %s\n", name.c_str());
    std::exit(2);
  }
  return info->type;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: bench_gpu_linear [--types Q4_K,Q6_K] [--tokens 1,8] [--shapes 8192x2048] [--norm] "
                 "[--gemm] [--experts Q4_K/Q6_K]\n");
    return 2;
  }
  Bench bench;
  std::printf("| matrix | tokens | us | GB/s | %% of read |\n|---|---|---|---|---|\n");
  if (options.experts.empty()) {
    for (const auto& shape : options.shapes)
      for (const auto& type : options.types)
        for (int64_t tokens : options.tokens) {
          Shape s = {};
          if (std::sscanf(shape.c_str(), "%ldx%ld", &s.rows, &s.columns) != 2) return 2;
          bench_linear(bench, type_of(type), s, tokens, options.norm, options.gemm);
        }
  }
  for (const auto& pair : options.experts)
    for (int64_t tokens : options.tokens) {
      const size_t slash = pair.find('/');
      const std::string down = slash == std::string::npos ? pair : pair.substr(slash + 1);
      bench_experts(bench, type_of(pair.substr(0, slash)), type_of(down), tokens);
    }
  return 0;
}
