// gemv(): how rows are shared out among blocks, and which kernel runs.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/gemv_arguments.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {
namespace {

constexpr int kWaves = kGemvThreads / kWave;

// Rows that a wave handles side by side: short rows do not fill it.
int slots_of(const ops::Matrix& w) {
  const int units = is_float_type(w.type) ? int(w.row_stride() / 16) : int(w.columns / 32);
  int slots = 1;
  while (slots < kWave && units * slots * 2 <= kWave) slots *= 2;
  return slots;
}

// Rows a block takes, so that all blocks of all outputs run at once and carry about the same bytes.
int rows_per_block(const ops::Matrix& w, int rows_together, double bytes_per_block) {
  const int granule = kWaves * slots_of(w) * rows_together;
  const double rows = bytes_per_block / double(w.row_stride());
  return std::max(granule, int(rows / granule + 0.999) * granule);
}

size_t shared_bytes(const ops::Matrix& w, int64_t columns, int tokens) {
  if (is_float_type(w.type)) return size_t(tokens) * size_t(padded_columns(int(columns))) * 4;
  return staged_bytes(tokens, columns, is_fine_type(w.type));
}

// Fills a.outputs for kernels in which a wave handles `rows_together` rows side by side.
void share_out(GemvArguments& a, std::span<const ops::Linear> outputs, int rows_together,
               double bytes_per_block) {
  int block = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const ops::Matrix& w = outputs[i].weight;
    GemvOutput& o = a.outputs[i];
    o.weight = reinterpret_cast<const uint8_t*>(w.data);
    o.out = outputs[i].out;
    o.out_stride = outputs[i].out_stride != 0 ? outputs[i].out_stride : w.rows;
    o.row_bytes = uint32_t(w.row_stride());
    o.rows = int32_t(w.rows);
    o.first_block = block;
    o.slots = slots_of(w);
    o.rows_per_block = rows_per_block(w, rows_together, bytes_per_block);
    o.type = w.type;
    o.add = outputs[i].add;
    block += int(ceil_div(o.rows, o.rows_per_block));
  }
  a.blocks = block;
}

#if defined(DW_GPU_CUDA)
// Hopper's kernel, where the rings of all the blocks that should run at once fit in shared memory.
template <int kTokens, int kRows>
bool run_stream(Context& context, GemvArguments& a, std::span<const ops::Linear> outputs, const Work& work,
                size_t staged, double share) {
  share_out(a, outputs, kRows, share);
  // A block a multiprocessor at least, or fewer rows together.
  if (kRows > (kTokens == 1 ? 1 : 2) && a.blocks < context.limits.multiprocessors * 7 / 4) return false;
  GemvRing ring = {uint32_t((staged + 127) / 128 * 128), 4};
  size_t set_bytes = 0;
  for (size_t i = 0; i < outputs.size(); ++i)
    set_bytes = std::max(set_bytes, size_t(kRows) * a.outputs[i].slots * a.outputs[i].row_bytes);
  const size_t room = context.limits.shared_bytes_block / gemv_blocks(kTokens) - 2048;
  while (ring.slots > 1 && ring.staged_bytes + kWaves * ring.slots * set_bytes > room) --ring.slots;
  const size_t shared = ring.staged_bytes + kWaves * ring.slots * set_bytes;
  int sets = 1;  // of a wave
  for (size_t i = 0; i < outputs.size(); ++i)
    sets = std::max(sets, a.outputs[i].rows_per_block / (kWaves * kRows * a.outputs[i].slots));
  if (shared > room || ring.slots < std::min(sets, 2)) return false;
  launch_gemv_stream<kTokens, kRows>(context, work, a, ring, shared);
  return true;
}

// Rows that a wave handles side by side in the kernel for whole blocks of 256 columns; 0: not its shape.
int lane_slots(const ops::Matrix& w) {
  if (!is_block_type(w.type) || w.columns % 256 != 0) return 0;
  int lanes = 1;
  while (lanes < kWave && w.columns / 256 % (2 * lanes) == 0) lanes *= 2;
  return lanes < 4 ? 0 : kWave / lanes;
}

constexpr int kLeastBlockRows = 4;

// Shares the rows out among at most `blocks` blocks (but one a matrix at least), about the same bytes each.
bool share_evenly(GemvArguments& a, std::span<const ops::Linear> outputs, int blocks, double bytes) {
  for (double share = bytes / blocks;; share *= 1.002) {
    int block = 0;
    for (size_t i = 0; i < outputs.size(); ++i) {
      GemvOutput& o = a.outputs[i];
      o.first_block = block;
      o.slots = lane_slots(outputs[i].weight);
      if (o.slots == 0) return false;
      o.rows_per_block = std::max(int(share / double(o.row_bytes)), kLeastBlockRows);
      block += int(ceil_div(o.rows, o.rows_per_block));
    }
    a.blocks = block;
    if (block <= std::max(blocks, int(outputs.size()))) return true;
  }
}

// Shared memory of a block: about half a multiprocessor's, so that the kernels before and behind find room
// beside it; more for matrices that take longer than those.
constexpr size_t kBlockSharedBytes = 124 << 10, kLargeBlockSharedBytes = 200 << 10;

template <int kTokens>
bool run_block(Context& context, GemvArguments& a, std::span<const ops::Linear> outputs, const Work& work,
               double bytes) {
  const int multiprocessors = context.limits.multiprocessors;
  share_out(a, outputs, 1, bytes);
  if (!share_evenly(a, outputs, multiprocessors, bytes)) return false;
  size_t staged = 0, set_bytes = 0;
  int sets = 1;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const GemvOutput& o = a.outputs[i];
    staged = std::max(staged, lane_bytes(kTokens, a.x.columns, is_fine_type(o.type)));
    set_bytes = std::max(set_bytes, size_t(o.slots) * o.row_bytes);
    sets = std::max(sets, int(ceil_div(o.rows_per_block, o.slots)));
  }
  staged = (staged + 127) / 128 * 128;
  constexpr int kBlockWaves = kBlockThreads / kWave;
  const size_t most = context.limits.shared_bytes_block - 2048;
  size_t room =
      bytes > double(multiprocessors) * double(kLargeShare) ? kLargeBlockSharedBytes : kBlockSharedBytes;
  if (room > most || room < staged + kBlockWaves * set_bytes) room = most;
  if (room < staged + set_bytes) return false;
  int slots = int(std::min<size_t>({size_t(kMaxRingSets), size_t(sets), (room - staged) / set_bytes}));
  // Where sets go through slots again, a slot belongs to one wave: then its phases are waited for in turn.
  if (slots < sets) slots = slots / kBlockWaves * kBlockWaves;
  if (slots == 0) return false;
  launch_gemv_block<kTokens>(context, work, a, {uint32_t(staged), slots}, staged + size_t(slots) * set_bytes);
  return true;
}
#endif

template <int kTokens>
void run(Context& context, GemvArguments& a, std::span<const ops::Linear> outputs, const Work& work) {
  double bytes = 0;
  size_t shared = 0;
  for (const ops::Linear& output : outputs) {
    bytes += double(output.weight.matrix_bytes());
    shared = std::max(shared, shared_bytes(output.weight, a.x.columns, kTokens));
  }
  const double share = bytes / (context.limits.multiprocessors * gemv_blocks(kTokens));
#if defined(DW_GPU_CUDA)
  if (context.limits.architecture >= 900) {
    if (run_block<kTokens>(context, a, outputs, work, bytes)) return;
    if (run_stream<kTokens, 4>(context, a, outputs, work, shared, share)) return;
    if (run_stream<kTokens, 2>(context, a, outputs, work, shared, share)) return;
    if constexpr (kTokens == 1)
      if (run_stream<1, 1>(context, a, outputs, work, shared, share)) return;
  }
#endif
  share_out(a, outputs, gemv_rows_together(kTokens), share);
  const auto launch_kernel = kTokens == 1   ? launch_gemv_1
                             : kTokens == 2 ? launch_gemv_2
                             : kTokens == 4 ? launch_gemv_4
                                            : launch_gemv_8;
  launch_kernel(context, work, a, shared);
}

// `tokens` rows of x from row `first` on.
ops::Activations rows_of(const ops::Activations& x, int64_t first, int64_t tokens) {
  ops::Activations part = x;
  part.tokens = tokens;
  part.values += first * x.columns;
  if (x.quants != nullptr) {
    part.quants += first * x.columns;
    part.scales += first * (x.columns / 32);
    part.sums += first * (x.columns / 16);
  }
  return part;
}

}  // namespace

void gemv(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs,
          const ops::Norm* norm) {
  DW_CHECK(outputs.size() <= size_t(kMaxOutputs) && x.tokens <= kGemvTokens, "too much for one gemv");
  size_t shared_one = 0;
  for (const ops::Linear& output : outputs)
    shared_one = std::max(shared_one, shared_bytes(output.weight, x.columns, 1));
  // As many tokens at once as shared memory holds.
  int64_t most = kGemvTokens;
  while (most > 1 && size_t(most) * shared_one > context.limits.shared_bytes_block - 1024) most /= 2;
  for (int64_t first = 0; first < x.tokens; first += most) {
    GemvArguments a = {};
    a.x = rows_of(x, first, std::min(most, x.tokens - first));
    if (norm != nullptr) {
      a.norm = *norm;
      a.norm.x += first * x.columns;
      a.norm.out = a.x;
    }
    a.count = int32_t(outputs.size());
    a.tables = context.tables;
    Work work = {"linear", double(a.x.tokens * x.columns) * (norm != nullptr ? 8 : 1.25), 0};
    ops::Linear moved[kMaxOutputs];
    for (size_t i = 0; i < outputs.size(); ++i) {
      const ops::Matrix& w = outputs[i].weight;
      moved[i] = outputs[i];
      moved[i].out += first * (outputs[i].out_stride != 0 ? outputs[i].out_stride : w.rows);
      work.bytes += double(w.matrix_bytes()) + double(a.x.tokens * w.rows) * (outputs[i].add ? 8 : 4);
      work.operations += 2.0 * double(a.x.tokens) * double(w.rows) * double(w.columns);
    }
    const std::span<const ops::Linear> parts(moved, outputs.size());
    if (a.x.tokens == 1)
      run<1>(context, a, parts, work);
    else if (a.x.tokens == 2)
      run<2>(context, a, parts, work);
    else if (a.x.tokens <= 4)
      run<4>(context, a, parts, work);
    else
      run<8>(context, a, parts, work);
  }
}

}  // namespace dw::gpu
