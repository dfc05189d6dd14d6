#include "backend/gpu_device.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <tuple>
#include <utility>

#include "backend/gpu/batch_tables.h"
#include "backend/gpu/upload.h"
#include "base/check.h"
#include "base/units.h"
#include "kernels/gpu/delta.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/runtime.h"
#include "quant/iq_tables.h"

namespace dw {
namespace gpu {

void runtime_failed(const char* what, const char* reason) {
  std::fprintf(stderr, "the GPU failed: %s: %s\n", what, reason);
  std::abort();
}

namespace {

// Rows of a batch above which a pass is not kept as a graph: launches no longer matter.
constexpr int32_t kLargestGraphBatch = 128;
constexpr size_t kMostGraphs = 64;

std::string architecture_name(const DeviceProperties& p) {
#if defined(DW_GPU_HIP)
  return std::string(p.gcnArchName).substr(0, std::string(p.gcnArchName).find(':'));
#else
  return "sm_" + std::to_string(p.major) + std::to_string(p.minor);
#endif
}

class GpuDevice final : public Device {
 public:
  explicit GpuDevice(const GpuOptions& options) : options_(options) {}
  ~GpuDevice() override;
  Expected<void> open();

  std::string name() const override { return gpu_backend_name(); }
  std::string description() const override {
    return info_.name + ", " + info_.architecture + ", " + format_bytes(info_.total_bytes);
  }
  MemoryInfo memory() const override;
  double measure_bandwidth() override;

  Expected<Buffer> allocate(uint64_t size_bytes) override;
  void free_memory(void* data, uint64_t size_bytes) override;
  void copy_to_device(void* to, const void* from, uint64_t n) override;
  void copy_to_host(void* to, const void* from, uint64_t n) override;
  void copy_on_device(void* to, const void* from, uint64_t n) override;
  void fill_zero(void* data, uint64_t n) override;
  void synchronize() override { check_runtime(gpu::synchronize(context_.stream), "synchronise"); }

  Expected<ops::Matrix> import(const ops::Matrix& host) override;
  uint64_t import_bytes(const ops::Matrix& host) const override {
    return device_row_bytes(host.type, host.columns) * uint64_t(host.rows) * uint64_t(host.count);
  }
  void reserve(const ops::Moe& largest) override { reserve_scratch(moe_scratch_bytes(largest)); }
  void reserve(const ops::DeltaMixer& largest) override { reserve_scratch(delta_scratch_bytes(largest)); }
  void reserve(const ops::Attention& largest) override {
    reserve_scratch(attention_scratch_bytes(largest, context_.limits));
  }

  void reserve(const ops::TopLogits& largest) override {
    reserve_scratch(top_logits_scratch_bytes(largest.rows, largest.vocabulary));
  }

  void begin_batch(const ops::Batch& batch) override;
  void begin_layer(int32_t layer) override { context_.layer = layer; }
  void run_pass(uint64_t key, const std::function<void()>& issue) override;
  void start_work_log() override;
  std::vector<WorkRecord> take_work_log() override;

  void embed(const ops::Embed& op) override;
  void norm(const ops::Norm& op) override;
  void pack(const float* rows, const ops::Activations& out) override { gpu::pack(context_, rows, out); }
  void reserve_linear(int64_t tokens, int64_t columns) override {
#if defined(DW_GPU_CUDA)
    reserve_scratch(linear_scratch_bytes(tokens, columns));
#else
    (void)tokens, (void)columns;
#endif
  }
  void linear(const ops::Activations& x, std::span<const ops::Linear> outputs) override {
    reserve_linear(x.tokens, x.columns);
    gpu::linear(context_, x, outputs, nullptr);
  }
  void norm_linear(const ops::Norm& norm_op, std::span<const ops::Linear> outputs) override {
    reserve_linear(norm_op.out.tokens, norm_op.out.columns);
    gpu::linear(context_, norm_op.out, outputs, &norm_op);
  }
  void delta_mixer(const ops::DeltaMixer& op) override;
  void attention(const ops::Attention& op) override;
  void moe(const ops::Moe& op) override;
  void norm_moe(const ops::Norm& norm_op, const ops::Moe& op) override;
  int32_t default_delta_chunk() const override {
    return gpu::delta_default_chunk(context_.limits);
  }
  int32_t most_top_logits() const override {
    return 256;
  }
  void top_logits(const ops::TopLogits& op) override {
    gpu::top_logits(context_, op.logits, op.rows, op.vocabulary, op.k, op.ids, op.values, op.max_and_sum);
  }

 private:
  // tokens, spans, rows, context bound: what the launches of a pass depend on beside its key.
  using GraphKey = std::tuple<uint64_t, int32_t, int32_t, int32_t, int32_t, int32_t>;
  struct Pass {
    GraphExec graph;
    std::vector<WorkRecord> log;  // of one replay
  };
  Pass capture(const std::function<void()>& issue);
  void reserve_scratch(uint64_t bytes);
  void upload_tables();
  void drop_graphs();
  void use_spans(std::span<const ops::Span> spans, int32_t page_tokens);
  const int32_t* to_device(const int32_t* host, int64_t count);

  GpuOptions options_;
  GpuInfo info_;
  Context context_;
  BatchTables tables_;
  std::unique_ptr<Uploader> uploader_;
  std::vector<void*> weights_;      // imported matrices and look-up tables
  std::vector<void*> old_scratch_;  // freed with the device: queued work may still use it
  void* indices_ = nullptr;         // of ops that come without begin_batch()
  int64_t indices_capacity_ = 0;
  std::map<GraphKey, Pass> graphs_;
  size_t logit_rows_ = 0;
  bool capturing_ = false;
  bool logging_ = false;
  std::vector<WorkRecord> log_;
};

Expected<GpuInfo> gpu_info(int index) {
  DeviceProperties p;
  if (const auto status = device_properties(&p, index); status != kRuntimeOk)
    return make_error("GPU ", index, ": ", status_text(status));
  GpuInfo info;
  info.name = p.name;
  info.architecture = architecture_name(p);
  info.multiprocessors = p.multiProcessorCount;
  info.total_bytes = info.free_bytes = p.totalGlobalMem;
  return info;
}

Expected<void> GpuDevice::open() {
  auto gpus = list_gpus();
  if (!gpus) return gpus.error();
  if (options_.index < 0 || size_t(options_.index) >= gpus->size())
    return make_error("there is no GPU ", options_.index, "; this machine shows ", gpus->size());
  info_ = (*gpus)[size_t(options_.index)];
  if (const auto status = use_device(options_.index); status != kRuntimeOk)
    return make_error("GPU ", options_.index, " (", info_.name, ") cannot be used: ", status_text(status));
  if (const auto status = create_stream(&context_.stream); status != kRuntimeOk)
    return make_error("GPU ", options_.index, " (", info_.name, ") cannot be used: ", status_text(status));
  DeviceProperties p;
  check_runtime(device_properties(&p, options_.index), "device properties");
  context_.limits.multiprocessors = p.multiProcessorCount;
#if defined(DW_GPU_HIP)
  context_.limits.shared_bytes_block = p.sharedMemPerBlock;
  context_.limits.architecture = 906;
  if (info_.architecture != "gfx906")
    return make_error("GPU ", options_.index, " (", info_.name, ", ", info_.architecture,
                      ") is not supported: this build has kernels for gfx906");
#else
  context_.limits.shared_bytes_block = p.sharedMemPerBlockOptin;
  context_.limits.architecture = p.major * 100 + p.minor * 10;
  context_.limits.overlap_launches = p.major >= 9;
  if (p.major < 8)
    return make_error("GPU ", options_.index, " (", info_.name, ", ", info_.architecture,
                      ") is too old: the kernels need sm_80 or later");
#endif
  void* counters = nullptr;
  check_runtime(allocate_device(&counters, kCounters * sizeof(uint32_t)), "allocate the counters");
  weights_.push_back(counters);
  fill_zero(counters, kCounters * sizeof(uint32_t));
  context_.counters = static_cast<uint32_t*>(counters);
  uploader_ = std::make_unique<Uploader>(context_.stream);
  upload_tables();
  return {};
}

GpuDevice::~GpuDevice() {
  if (context_.stream != nullptr) (void)gpu::synchronize(context_.stream);
  drop_graphs();
  uploader_.reset();
  for (void* data : weights_) (void)free_device(data);
  for (void* data : old_scratch_) (void)free_device(data);
  if (context_.scratch != nullptr) (void)free_device(context_.scratch);
  if (indices_ != nullptr) (void)free_device(indices_);
  if (context_.stream != nullptr) (void)destroy_stream(context_.stream);
}

void GpuDevice::upload_tables() {
  const auto put = [&](const auto& table, auto& pointer) {
    void* memory = nullptr;
    check_runtime(allocate_device(&memory, sizeof(table)), "allocate the look-up tables");
    weights_.push_back(memory);
    copy_to_device(memory, table.data(), sizeof(table));
    pointer = static_cast<std::decay_t<decltype(pointer)>>(memory);
  };
  put(quant::kIq2xxsGrid, context_.tables.iq2xxs);
  put(quant::kIq2xsGrid, context_.tables.iq2xs);
  put(quant::kIq2sGrid, context_.tables.iq2s);
  put(quant::kIq3xxsGrid, context_.tables.iq3xxs);
  put(quant::kIq3sGrid, context_.tables.iq3s);
  put(quant::kIq1Grid, context_.tables.iq1);
}

MemoryInfo GpuDevice::memory() const {
  size_t free_bytes = 0, total_bytes = 0;
  check_runtime(memory_info(&free_bytes, &total_bytes), "memory information");
  return {total_bytes, free_bytes};
}

double GpuDevice::measure_bandwidth() {
  constexpr uint64_t kBytes = uint64_t(1) << 30;
  constexpr int kRounds = 8, kPasses = 4;
  auto buffer = allocate(kBytes + 16);
  if (!buffer) return 0;
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    synchronize();
    const auto begin = std::chrono::steady_clock::now();
    for (int pass = 0; pass < kPasses; ++pass)
      read_memory(context_, buffer->as<std::byte>(), kBytes,
                  reinterpret_cast<uint32_t*>(buffer->as<std::byte>() + kBytes));
    synchronize();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, kPasses * double(kBytes) / seconds);
  }
  return best;
}

Expected<Buffer> GpuDevice::allocate(uint64_t size_bytes) {
  if (size_bytes == 0) return Buffer(this, nullptr, 0);
  void* data = nullptr;
  if (const auto status = allocate_device(&data, size_bytes); status != kRuntimeOk) {
    (void)DW_RUNTIME(GetLastError)();  // an allocation that fails leaves its error behind
    return make_error("cannot allocate ", format_bytes(size_bytes), " on ", info_.name, " (",
                      format_bytes(memory().free_bytes), " are free): ", status_text(status));
  }
  fill_zero(data, size_bytes);
  return Buffer(this, data, size_bytes);
}

void GpuDevice::free_memory(void* data, uint64_t) {
  if (data == nullptr) return;
  synchronize();
  drop_graphs();  // they may use it
  check_runtime(free_device(data), "free");
}

void GpuDevice::copy_to_device(void* to, const void* from, uint64_t n) {
  if (n == 0) return;
  check_runtime(copy(to, from, n, CopyKind::kToDevice, context_.stream), "copy to the device");
  synchronize();
}

void GpuDevice::copy_to_host(void* to, const void* from, uint64_t n) {
  if (n == 0) return;
  check_runtime(copy(to, from, n, CopyKind::kToHost, context_.stream), "copy from the device");
  synchronize();
}

void GpuDevice::copy_on_device(void* to, const void* from, uint64_t n) {
  if (n > 0) check_runtime(copy(to, from, n, CopyKind::kOnDevice, context_.stream), "copy on the device");
}

void GpuDevice::fill_zero(void* data, uint64_t n) {
  if (n > 0) check_runtime(gpu::fill_zero(data, n, context_.stream), "fill");
}

Expected<ops::Matrix> GpuDevice::import(const ops::Matrix& host) {
  if (quant::type_info(host.type).dequantize == nullptr)
    return make_error("the engine cannot multiply ", quant::type_info(host.type).name, " tensors");
  const uint64_t stride = device_row_bytes(host.type, host.columns);
  const uint64_t bytes = import_bytes(host);
  void* data = nullptr;
  if (const auto status = allocate_device(&data, bytes); status != kRuntimeOk) {
    (void)DW_RUNTIME(GetLastError)();
    return make_error("cannot allocate ", format_bytes(bytes), " for weights on ", info_.name, " (",
                      format_bytes(memory().free_bytes), " are free): ", status_text(status));
  }
  weights_.push_back(data);
  ops::Matrix matrix = host;
  matrix.data = static_cast<const std::byte*>(data);
  matrix.stride_bytes = stride;
  uploader_->upload(context_, host, static_cast<std::byte*>(data));
  return matrix;
}

void GpuDevice::reserve_scratch(uint64_t bytes) {
  if (bytes <= context_.scratch_bytes) return;
  DW_CHECK(!capturing_, "scratch memory must be reserved before a pass is captured");
  if (context_.scratch != nullptr) old_scratch_.push_back(context_.scratch);
  drop_graphs();
  void* data = nullptr;
  check_runtime(allocate_device(&data, bytes), "allocate working memory");
  context_.scratch = static_cast<std::byte*>(data);
  context_.scratch_bytes = bytes;
}

void GpuDevice::begin_batch(const ops::Batch& batch) {
  if (tables_.upload(batch, batch.page_tokens, context_.stream)) drop_graphs();
  context_.batch = tables_.table();
  logit_rows_ = batch.logit_rows.size();
}

void GpuDevice::drop_graphs() {
  for (auto& [key, pass] : graphs_) (void)destroy_graph(pass.graph);
  graphs_.clear();
}

void GpuDevice::start_work_log() {
  logging_ = true;
  log_.clear();
  context_.log = &log_;
}

std::vector<WorkRecord> GpuDevice::take_work_log() {
  logging_ = false;
  context_.log = nullptr;
  return std::exchange(log_, {});
}

// A graph keeps its log always, so that replays can be logged whenever that starts.
GpuDevice::Pass GpuDevice::capture(const std::function<void()>& issue) {
  Pass pass = {};
  Graph graph = nullptr;
  capturing_ = true;
  context_.log = &pass.log;
  check_runtime(begin_capture(context_.stream), "begin a graph");
  issue();
  check_runtime(end_capture(context_.stream, &graph), "end a graph");
  context_.log = logging_ ? &log_ : nullptr;
  capturing_ = false;
  check_runtime(instantiate(&pass.graph, graph), "make a graph");
  (void)destroy_graph(graph);
  return pass;
}

void GpuDevice::run_pass(uint64_t key, const std::function<void()>& issue) {
  const BatchTable& b = context_.batch;
  if (!options_.graphs || b.longest_span != 1 || b.tokens > kLargestGraphBatch) {
    issue();
    return;
  }
  const GraphKey graph_key{
      key, b.tokens, b.span_count, b.longest_span, b.context_bound, int32_t(logit_rows_)};
  auto found = graphs_.find(graph_key);
  if (found == graphs_.end()) {
    if (graphs_.size() >= kMostGraphs) drop_graphs();
    found = graphs_.emplace(graph_key, capture(issue)).first;
  }
  const Pass& pass = found->second;
  check_runtime(launch_graph(pass.graph, context_.stream), "launch a graph");
  if (logging_) log_.insert(log_.end(), pass.log.begin(), pass.log.end());
}

// Host indices of an op that came without begin_batch().
const int32_t* GpuDevice::to_device(const int32_t* host, int64_t count) {
  DW_CHECK(!capturing_, "an op of a captured pass reads host memory");
  synchronize();
  if (count > indices_capacity_) {
    if (indices_ != nullptr) check_runtime(free_device(indices_), "free");
    indices_capacity_ = std::max<int64_t>(count, 1024);
    check_runtime(allocate_device(&indices_, size_t(indices_capacity_) * sizeof(int32_t)), "allocate");
  }
  copy_to_device(indices_, host, uint64_t(count) * sizeof(int32_t));
  return static_cast<const int32_t*>(indices_);
}

void GpuDevice::use_spans(std::span<const ops::Span> spans, int32_t page_tokens) {
  if (tables_.holds(spans)) return;
  DW_CHECK(!capturing_, "an op of a captured pass reads host memory");
  begin_batch({{}, spans, {}, page_tokens});
  tables_.forget();  // the caller's spans may change where they lie
}

void GpuDevice::embed(const ops::Embed& op) {
  if (op.tokens == 0) return;
  gpu::embed(context_, op, tables_.holds_ids(op.ids) ? tables_.ids() : to_device(op.ids, op.tokens));
}

void GpuDevice::norm(const ops::Norm& op) {
  if (op.out.tokens == 0) return;
  const int32_t* rows = nullptr;
  if (op.rows != nullptr)
    rows = tables_.holds_rows(op.rows) ? tables_.logit_rows() : to_device(op.rows, op.out.tokens);
  gpu::norm(context_, op, rows);
}

void GpuDevice::delta_mixer(const ops::DeltaMixer& op) {
  reserve_scratch(delta_scratch_bytes(op));
  use_spans(op.spans, 1);
  gpu::delta_mixer(context_, op);
}

void GpuDevice::attention(const ops::Attention& op) {
  reserve_scratch(attention_scratch_bytes(op, context_.limits));
  use_spans(op.spans, op.page_tokens);
  gpu::attention(context_, op);
}

void GpuDevice::moe(const ops::Moe& op) {
  reserve_scratch(moe_scratch_bytes(op));
  gpu::moe(context_, op, nullptr);
}

void GpuDevice::norm_moe(const ops::Norm& norm_op, const ops::Moe& op) {
  reserve_scratch(moe_scratch_bytes(op));
  gpu::moe(context_, op, &norm_op);
}

}  // namespace
}  // namespace gpu

const char* gpu_backend_name() {
#if defined(DW_GPU_HIP)
  return "hip";
#else
  return "cuda";
#endif
}

Expected<std::vector<GpuInfo>> list_gpus() {
  int count = 0;
  const auto status = gpu::device_count(&count);
  if (status != gpu::kRuntimeOk) {
    (void)DW_RUNTIME(GetLastError)();
    return make_error("no GPU can be used: ", gpu::status_text(status));
  }
  if (count == 0) return make_error("no GPU can be used: the driver shows none");
  std::vector<GpuInfo> gpus;
  for (int i = 0; i < count; ++i) {
    auto info = gpu::gpu_info(i);
    if (!info) return info.error();
    gpus.push_back(std::move(*info));
  }
  return gpus;
}

Expected<std::unique_ptr<Device>> make_gpu_device(const GpuOptions& options) {
  auto device = std::make_unique<gpu::GpuDevice>(options);
  if (auto opened = device->open(); !opened) return opened.error();
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace dw
