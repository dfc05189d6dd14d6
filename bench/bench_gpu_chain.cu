// The dense matrix-vector products where they stand in a token: a graph of 48 times [norm and projections ->
// a small dependent kernel -> output projection, added], launches overlapping, weights from memory. What a
// product costs is the chain's time less the time of the chain without it.
#include <cstdio>
#include <string>

#include "gpu_bench.h"
#include "kernels/gpu/activations.h"
#include "kernels/gpu/internal.h"

namespace {

using namespace dw;
using namespace dw::bench;

constexpr int kLayers = 48;
constexpr int64_t kHidden = 2048, kMixed = 4096, kQkv = 8192, kBa = 64;

// Stands for the mixer: 16 blocks quantise a row of the projections' results.
__global__ void __launch_bounds__(256) mix_kernel(const float* from, ops::Activations out) {
  gpu::wait_for_previous();
  gpu::allow_next();
  const int column = int(blockIdx.x * 256 + threadIdx.x);
  for (int64_t t = 0; t < out.tokens; ++t) gpu::store_activation(out, t, column, from[t * kMixed + column]);
}

// What the layers share.
struct Layer {
  Bench& bench;
  int64_t tokens;
  quant::Type qkv_type;
  ops::Activations normed, mixed;
  float *hidden, *qkv, *z, *ba, *norm_weight;

  Layer(Bench& b, int64_t count, quant::Type type)
      : bench(b),
        tokens(count),
        qkv_type(type),
        normed(b.activations(count, kHidden)),
        mixed(b.activations(count, kMixed)),
        hidden(device_normals(size_t(count * kHidden), 3)),
        qkv(device_zeros<float>(size_t(count * kQkv))),
        z(device_normals(size_t(count * kMixed), 4)),
        ba(device_zeros<float>(size_t(count * kBa))),
        norm_weight(device_normals(size_t(kHidden), 5)) {}

  void project() const {
    ops::Norm norm;
    norm.x = hidden, norm.weight = norm_weight, norm.out = normed;
    const ops::Linear calls[] = {{bench.next_matrix(qkv_type, kQkv, kHidden), qkv, 0, false},
                                 {bench.next_matrix(quant::Type::Q4_K, kMixed, kHidden), z, 0, false},
                                 {bench.next_matrix(quant::Type::Q4_K, kBa, kHidden), ba, 0, false}};
    gpu::linear(bench.context, normed, calls, &norm);
  }
  void mix() const {
    gpu::launch(bench.context, "mix_kernel", {}, mix_kernel, dim3(kMixed / 256), dim3(256), 0,
                static_cast<const float*>(z), mixed);
  }
  void output() const {
    const ops::Linear call[] = {{bench.next_matrix(quant::Type::Q4_K, kHidden, kMixed), hidden, 0, true}};
    gpu::linear(bench.context, mixed, call, nullptr);
  }
};

void chain(Bench& bench, int64_t tokens, quant::Type type) {
  const Layer layer(bench, tokens, type);
  const auto time = [&](bool project, bool output) {
    return 1e6 / kLayers * bench.seconds_of([&] {
      for (int i = 0; i < kLayers; ++i) {
        if (project) layer.project();
        layer.mix();
        if (output) layer.output();
      }
    });
  };
  const double all = time(true, true), front = time(true, false), back = time(false, true),
               none = time(false, false);
  std::printf("| %s, %d tokens | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n",
              std::string(quant::type_info(type).name).c_str(), int(tokens), all, front, back, none,
              all - back, all - front);
}

void one_matrix(Bench& bench, const char* what, quant::Type type, int64_t rows, int64_t columns,
                int64_t tokens, bool with_norm, bool tiles = false) {
  const ops::Activations x = bench.activations(tokens, columns);
  float* out = device_zeros<float>(size_t(tokens * rows));
  ops::Norm norm;
  norm.x = device_normals(size_t(tokens * columns), 1), norm.weight = device_normals(size_t(columns), 2);
  norm.out = x;
  const double bytes = double(rows) * double(gpu::device_row_bytes(type, columns));
  const int launches = int(std::clamp(4e8 / bytes, 3.0, 60.0));
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < launches; ++i) {
      const ops::Linear call[] = {{bench.next_matrix(type, rows, columns), out, rows, false}};
      if (!tiles || !gpu::gemv_tile(bench.context, x, call))
        gpu::linear(bench.context, x, call, with_norm ? &norm : nullptr);
    }
  });
  bench.row(what, tokens, seconds / launches, bytes);
}

// Norms of one row, one behind the other.
void norms(Bench& bench, int64_t rows) {
  ops::Norm norm;
  norm.x = device_normals(size_t(rows * kHidden), 1), norm.weight = device_normals(size_t(kHidden), 2);
  norm.out = bench.activations(rows, kHidden);
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < kLayers; ++i) gpu::norm(bench.context, norm, nullptr);
  });
  std::printf("norm of %d rows: %.2f us\n", int(rows), 1e6 * seconds / kLayers);
}

}  // namespace

int main() {
  using enum quant::Type;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Bench bench;
  bench.context.scratch_bytes = gpu::linear_scratch_bytes(64, kMixed);
  bench.context.scratch = device_zeros<std::byte>(bench.context.scratch_bytes);
  for (int64_t rows : {1, 16}) norms(bench, rows);
  std::printf("\n| chain, us a layer | all | front | back | none | projections | output |\n");
  for (int64_t tokens : {1, 2, 4, 8, 16, 32, 64}) chain(bench, tokens, Q4_K);
  for (int64_t tokens : {1, 4, 16, 64}) chain(bench, tokens, Q6_K);
  std::printf("\n| matrix | tokens | us | GB/s | %% of read |\n");
  for (int64_t tokens : {1, 2, 4, 8, 16}) one_matrix(bench, "lm_head Q6_K", Q6_K, 151936, 2048, tokens, true);
  one_matrix(bench, "lm_head Q4_K", Q4_K, 151936, 2048, 1, true);
  for (int64_t tokens : {1, 4, 8, 16, 32, 64}) {
    one_matrix(bench, "8192x2048 Q4_K", Q4_K, 8192, 2048, tokens, false);
    one_matrix(bench, "8192x2048 Q4_K, tiles", Q4_K, 8192, 2048, tokens, false, true);
  }
  for (int64_t tokens : {4, 16})
    one_matrix(bench, "lm_head Q6_K, tiles", Q6_K, 151936, 2048, tokens, false, true);
  return 0;
}
