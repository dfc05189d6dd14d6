// Times the mixture of experts, dense products and the router on the GPU at the 80B model's shapes: md tables
// of microseconds, TFLOPS, share of the peak given on the command line, GB/s of weights.
//   bench_gpu_moe [peak TFLOPS [moe|linear|router|decode]]

#include <algorithm>
#include <functional>
#include <string>

#include "gpu/moe_support.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/sm90/moe_stream.h"
#include "kernels/reference/reference.h"

namespace dw {
namespace {

using moe_test::DeviceArray;
using moe_test::TestActivations;
using moe_test::TestContext;
using moe_test::TestMatrix;
using quant::Type;
using test::normals;

constexpr int64_t kHidden = 2048, kWidth = 512;
constexpr int32_t kExperts = 512, kTopK = 10;

std::string name_of(Type type) {
  return std::string(quant::type_info(type).name);
}

// Median of several runs of `repeats` calls each, in microseconds a call.
double time_us(gpu::Context& context, int repeats, const std::function<void()>& call) {
  cudaEvent_t begin, end;
  gpu::check_runtime(cudaEventCreate(&begin), "cudaEventCreate");
  gpu::check_runtime(cudaEventCreate(&end), "cudaEventCreate");
  call();
  std::vector<double> times;
  for (int run = 0; run < 5; ++run) {
    gpu::check_runtime(cudaEventRecord(begin, context.stream), "cudaEventRecord");
    for (int i = 0; i < repeats; ++i) call();
    gpu::check_runtime(cudaEventRecord(end, context.stream), "cudaEventRecord");
    gpu::check_runtime(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    gpu::check_runtime(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    times.push_back(double(ms) * 1e3 / repeats);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void print_row(const std::string& what, int64_t tokens, double us, double operations, double bytes,
               double peak) {
  const double tflops = operations / us / 1e6;
  std::printf("| %s | %lld | %.1f | %.1f | %.1f | %.0f |\n", what.c_str(), (long long)tokens, us, tflops,
              100 * tflops / peak, bytes / us / 1e3);
  std::fflush(stdout);
}

// The reference's result of a few tokens against the op's.
double sampled_error(const ops::Moe& host, const std::vector<float>& x, const std::vector<float>& found,
                     int64_t tokens) {
  std::vector<float> a, b;
  for (int64_t t : {int64_t(0), tokens / 2, tokens - 1}) {
    std::vector<float> out(size_t(kHidden), 0.0f);
    ops::Moe op = host;
    op.x = {1, kHidden, const_cast<float*>(x.data()) + t * kHidden, nullptr, nullptr, nullptr};
    op.out = out.data();
    reference::moe(op);
    b.insert(b.end(), out.begin(), out.end());
    a.insert(a.end(), found.begin() + t * kHidden, found.begin() + (t + 1) * kHidden);
  }
  return test::nmse(a, b);
}

void bench_moe(Type gate_type, Type down_type, double peak) {
  Random random(7);
  ops::Moe shape;
  shape.expert_count = kExperts, shape.top_k = kTopK;
  shape.x.tokens = 8192, shape.x.columns = kHidden;
  shape.down.rows = kHidden, shape.down.columns = kWidth;
  const std::byte present{};
  shape.shared_down = {Type::Q8_0, &present, kHidden, kWidth};
  TestContext owner(gpu::moe_scratch_bytes(shape));
  gpu::Context& context = owner.context;
  const float deviation = 1 / std::sqrt(float(kHidden));
  TestMatrix router(context, Type::F32, kExperts, kHidden, 1, deviation, random);
  // All experts are distinct rows of the repeated 16, which only the sampled check can tell.
  TestMatrix gate(context, gate_type, kWidth, kHidden, kExperts, deviation, random, 16);
  TestMatrix up(context, gate_type, kWidth, kHidden, kExperts, deviation, random, 16);
  TestMatrix down(context, down_type, kHidden, kWidth, kExperts, 2 * deviation, random, 16);
  TestMatrix shared_gate(context, gate_type, kWidth, kHidden, 1, deviation, random);
  TestMatrix shared_up(context, gate_type, kWidth, kHidden, 1, deviation, random);
  TestMatrix shared_down(context, down_type, kHidden, kWidth, 1, 2 * deviation, random);
  const std::vector<float> x = normals(random, 8192 * kHidden);
  const std::vector<float> shared_router = normals(random, kHidden, deviation);
  DeviceArray<float> device_shared(shared_router), out(x.size());
  for (int64_t tokens : {8, 16, 17, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}) {
    TestActivations activations(context, {x.begin(), x.begin() + tokens * kHidden}, tokens, kHidden);
    ops::Moe op = shape;
    op.x = activations.view;
    op.router = router.device_view;
    op.gate = gate.device_view, op.up = up.device_view, op.down = down.device_view;
    op.shared_gate = shared_gate.device_view, op.shared_up = shared_up.device_view;
    op.shared_down = shared_down.device_view, op.shared_router = device_shared.data();
    op.out = out.data();
    out.set(std::vector<float>(x.size(), 0.0f));
    gpu::moe(context, op, nullptr);
    owner.synchronize();
    if (tokens == 17 || tokens == 2048 || tokens == 8192) {
      ops::Moe host = op;
      host.router = router.host_view;
      // Expert e is expert e % 16: the router's rows stay, the weights repeat.
      std::vector<std::byte> repeated[3];
      const TestMatrix* sources[3] = {&gate, &up, &down};
      ops::Matrix* targets[3] = {&host.gate, &host.up, &host.down};
      for (int m = 0; m < 3; ++m) {
        for (int i = 0; i < kExperts / 16; ++i)
          repeated[m].insert(repeated[m].end(), sources[m]->file.begin(), sources[m]->file.end());
        *targets[m] = sources[m]->host_view;
        targets[m]->data = repeated[m].data(), targets[m]->count = kExperts;
      }
      host.shared_gate = shared_gate.host_view, host.shared_up = shared_up.host_view;
      host.shared_down = shared_down.host_view, host.shared_router = shared_router.data();
      const double error = sampled_error(host, x, out.values(), tokens);
      std::printf("| check %s %s, %lld tokens: NMSE %.2e |\n", name_of(gate_type).c_str(),
                  name_of(down_type).c_str(), (long long)tokens, error);
      if (!(error <= (tokens > 128 ? 1e-5 : 2e-4))) std::printf("FAILED\n"), std::exit(1);
    }
    const double us = time_us(context, tokens >= 2048 ? 5 : 10, [&] { gpu::moe(context, op, nullptr); });
    const double per_token = 2.0 * kHidden * (3.0 * kWidth * (kTopK + 1) + kExperts);
    const double experts = double(kExperts) * (1 - std::pow(1 - double(kTopK) / kExperts, double(tokens)));
    const double expert_bytes = double(2 * gate.device_view.matrix_bytes() + down.device_view.matrix_bytes());
    print_row("moe " + name_of(gate_type) + " " + name_of(down_type), tokens, us, per_token * double(tokens),
              experts * expert_bytes, peak);
    if (tokens > 128) continue;
    if (tokens <= gpu::kMoeDecodeTokens)
      print_row("the same, tiles", tokens,
                time_us(context, 10, [&] { gpu::moe_tiles(context, op, nullptr); }),
                per_token * double(tokens), experts * expert_bytes, peak);
    print_row("the same, tensor cores", tokens, time_us(context, 10, [&] { gpu::moe_mma(context, op); }),
              per_token * double(tokens), experts * expert_bytes, peak);
  }
}

void bench_linear(Type type, int64_t rows, int64_t columns, double peak) {
  Random random(8);
  TestContext owner(gpu::linear_scratch_bytes(8192, columns));
  gpu::Context& context = owner.context;
  TestMatrix matrix(context, type, rows, columns, 1, 0.02f, random);
  const std::vector<float> x = normals(random, 8192 * columns);
  DeviceArray<float> out(size_t(8192 * rows));
  for (int64_t tokens : {16, 64, 256, 512, 2048, 8192}) {
    TestActivations activations(context, {x.begin(), x.begin() + tokens * columns}, tokens, columns);
    const ops::Linear linear = {matrix.device_view, out.data(), rows, false};
    const double us = time_us(context, 10, [&] { gpu::linear_mma(context, activations.view, {&linear, 1}); });
    print_row(name_of(type) + " " + std::to_string(rows) + "x" + std::to_string(columns), tokens, us,
              2.0 * double(rows * columns * tokens), double(matrix.device_view.matrix_bytes()), peak);
  }
}

void bench_router() {
  constexpr int kLayers = 48;
  Random random(9);
  TestContext owner(1 << 20);
  gpu::Context& context = owner.context;
  TestMatrix router(context, Type::F32, kExperts * kLayers, kHidden, 1, 0.02f, random);
  const std::vector<float> x = normals(random, 16 * kHidden);
  TestActivations input(context, x, 16, kHidden), output(context, x, 16, kHidden);
  DeviceArray<float> weight(std::vector<float>(size_t(kHidden), 1.0f)), weights(16 * kTopK), shared(16);
  DeviceArray<float> logits(16 * (kExperts + 1));
  DeviceArray<int32_t> ids(16 * kTopK);
  std::printf("\n| router, norm fused, a layer | tokens | us | GB/s |\n|---|---|---|---|\n");
  for (int64_t tokens : {1, 2, 4, 8, 16}) {
    output.view.tokens = tokens;
    ops::Moe op;
    op.expert_count = kExperts, op.top_k = kTopK, op.x = output.view, op.shared_router = weight.data();
    const ops::Norm norm = {input.rows.data(), nullptr, weight.data(), 1e-6f, output.view};
    const auto layers = [&] {
      for (int layer = 0; layer < kLayers; ++layer) {
        op.router = router.device_view.slice(layer * kExperts, kExperts);
        gpu::route_few(context, op, &norm, {ids.data(), weights.data(), shared.data()}, logits.data());
      }
    };
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    gpu::check_runtime(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), "capture");
    layers();
    gpu::check_runtime(cudaStreamEndCapture(context.stream, &graph), "capture");
    gpu::check_runtime(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    const double us =
        time_us(context, 10,
                [&] { gpu::check_runtime(cudaGraphLaunch(executable, context.stream), "graph"); }) /
        kLayers;
    std::printf("| 512 x 2048 F32 | %lld | %.2f | %.0f |\n", (long long)tokens, us,
                4.0 * kExperts * kHidden / us / 1e3);
  }
}

// Captures `queue` and times its replays, microseconds.
double replay_us(gpu::Context& context, const std::function<void()>& queue) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  gpu::check_runtime(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), "capture");
  queue();
  gpu::check_runtime(cudaStreamEndCapture(context.stream, &graph), "capture");
  gpu::check_runtime(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  const double us =
      time_us(context, 10, [&] { gpu::check_runtime(cudaGraphLaunch(executable, context.stream), "graph"); });
  cudaGraphExecDestroy(executable), cudaGraphDestroy(graph);
  return us;
}

// A token's chain of layers: a product in the mixer's place, then the experts. Two layers' weights in turn
// under 48 routers, so that hardly any expert is in a cache.
void bench_decode(Type gate_type, Type down_type) {
  constexpr int kLayers = 48, kSets = 2;
  constexpr int64_t kMost = 16;
  Random random(11);
  ops::Moe shape;
  shape.expert_count = kExperts, shape.top_k = kTopK;
  shape.x.tokens = kMost, shape.x.columns = kHidden;
  shape.down.rows = kHidden, shape.down.columns = kWidth;
  TestContext owner(gpu::moe_scratch_bytes(shape) + (1 << 20));
  gpu::Context& context = owner.context;
  const float deviation = 1 / std::sqrt(float(kHidden));
  const auto experts_of = [&](Type type, int64_t rows, int64_t columns) {
    return TestMatrix(context, type, rows, columns, kExperts * kSets, deviation, random, 16);
  };
  const TestMatrix gate = experts_of(gate_type, kWidth, kHidden), up = experts_of(gate_type, kWidth, kHidden);
  const TestMatrix down = experts_of(down_type, kHidden, kWidth);
  const TestMatrix shared_gate(context, gate_type, kWidth, kHidden, kLayers, deviation, random, 1);
  const TestMatrix shared_up(context, gate_type, kWidth, kHidden, kLayers, deviation, random, 1);
  const TestMatrix shared_down(context, down_type, kHidden, kWidth, kLayers, deviation, random, 1);
  const TestMatrix mixer(context, Type::Q4_K, kHidden, 2 * kHidden, kLayers, deviation, random, 1);
  const TestMatrix router(context, Type::F32, kExperts, kHidden, kLayers, deviation, random);
  const TestActivations mixed(context, normals(random, kMost * 2 * kHidden), kMost, 2 * kHidden);
  const TestActivations normed(context, normals(random, kMost * kHidden), kMost, kHidden);
  const DeviceArray<float> x(normals(random, kMost * kHidden));
  const DeviceArray<float> weight(std::vector<float>(size_t(kHidden), 1.0f));
  const DeviceArray<float> shared_router(normals(random, kHidden, deviation));
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kMost * kTopK * kLayers; ++i) ids.push_back(int32_t(random.below(kExperts)));
  const DeviceArray<int32_t> device_ids(ids);
  const DeviceArray<float> weights(std::vector<float>(ids.size(), 0.1f));
  const DeviceArray<float> hidden(size_t(kMost * (kTopK + 1) * kWidth));
  const auto nth = [](ops::Matrix m, int64_t set, int64_t count) {
    m.data += uint64_t(set) * uint64_t(count) * (m.matrix_bytes());
    m.count = count;
    return m;
  };
  for (int64_t tokens : {1, 2, 4, 8, 16}) {
    enum Part { kNone, kAll, kExpertsOnly };
    const auto chain = [&](Part part, int architecture) {
      const int real = context.limits.architecture;
      for (int layer = 0; layer < kLayers; ++layer) {
        ops::Activations in = mixed.view;
        in.tokens = tokens;
        const ops::Linear linear = {nth(mixer.device_view, layer, 1), x.data(), kHidden, true};
        if (tokens <= gpu::kGemvTokens)
          gpu::gemv(context, in, {&linear, 1}, nullptr);
        else
          gpu::gemm_dot4(context, in, linear);
        ops::Moe op;
        op.expert_count = kExperts, op.top_k = kTopK;
        op.x = normed.view;
        op.x.tokens = tokens;
        op.router = nth(router.device_view, layer, 1);
        op.gate = nth(gate.device_view, layer % kSets, kExperts);
        op.up = nth(up.device_view, layer % kSets, kExperts);
        op.down = nth(down.device_view, layer % kSets, kExperts);
        op.shared_gate = nth(shared_gate.device_view, layer, 1);
        op.shared_up = nth(shared_up.device_view, layer, 1);
        op.shared_down = nth(shared_down.device_view, layer, 1);
        op.shared_router = shared_router.data();
        op.out = x.data();
        const ops::Norm norm = {x.data(), nullptr, weight.data(), 1e-6f, op.x};
        context.limits.architecture = architecture;
        if (part == kAll) gpu::moe(context, op, &norm);
        if (part == kExpertsOnly)
          gpu::moe_decode(context, op,
                          {device_ids.data() + layer * tokens * kTopK, weights.data(), weights.data()},
                          hidden.data());
        context.limits.architecture = real;
      }
    };
    const auto time = [&](Part part, int architecture) {
      return replay_us(context, [&] { chain(part, architecture); }) / kLayers;
    };
    const int here = context.limits.architecture;
    const double none = time(kNone, here), all = time(kAll, here), experts = time(kExpertsOnly, here);
    const double before = time(kAll, 800), experts_before = time(kExpertsOnly, 800);
    std::printf("| %s %s | %lld | %.2f | %.2f | %.2f | %.2f | %.2f |\n", name_of(gate_type).c_str(),
                name_of(down_type).c_str(), (long long)tokens, none, all - none, experts - none,
                before - none, experts_before - none);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace dw

int main(int count, char** arguments) {
  using dw::quant::Type;
  const double peak = count > 1 ? std::atof(arguments[1]) : 761;
  const std::string only = count > 2 ? arguments[2] : "";
  std::printf("| op | tokens | us | TFLOPS | %% of %.0f | weights GB/s |\n|---|---|---|---|---|---|\n", peak);
  if (only.empty() || only == "moe") {
    dw::bench_moe(Type::Q4_K, Type::Q4_K, peak);
    dw::bench_moe(Type::Q4_K, Type::Q6_K, peak);
  }
  if (only.empty() || only == "linear") {
    dw::bench_linear(Type::Q4_K, 8192, 2048, peak);
    dw::bench_linear(Type::Q6_K, 8192, 2048, peak);
    dw::bench_linear(Type::Q8_0, 2048, 4096, peak);
    dw::bench_linear(Type::Q4_K, 64, 2048, peak);
  }
  if (only.empty() || only == "router") dw::bench_router();
  if (only.empty() || only == "decode") {
    std::printf(
        "\n| a layer | tokens | mixer's product us | + experts | without router | portable | without router "
        "|\n|---|---|---|---|---|---|---|\n");
    dw::bench_decode(Type::Q4_K, Type::Q4_K);
    dw::bench_decode(Type::Q4_K, Type::Q6_K);
  }
  return 0;
}
