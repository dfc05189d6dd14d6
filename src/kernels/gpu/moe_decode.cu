// The experts of a few tokens, in two launches: gate and up of every (token, expert) with silu and product;
// then down of all experts of a token, weighted, summed and added to the residual. A block of the second owns
// its output rows over all experts, so that sums are made in one order.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_decode_kernel.h"

namespace dw::gpu {
namespace {

ExpertMatrix expert_matrix(const ops::Matrix& m) {
  return {reinterpret_cast<const uint8_t*>(m.data), m.matrix_bytes(), uint32_t(m.row_stride()), m.type};
}

// Gate's and up's rows of the same type, side by side.
template <class Units>
DW_DEVICE void gate_up_pairs(const GateUpArguments& a, const uint8_t* gate, const uint8_t* up,
                             uint32_t row_bytes, int count, const StagedAny& staged, float* out) {
  const RowLoop<Units, 2, 1, 1, true> loop(gate, up, row_bytes, count, int(a.x.columns));
  loop.run(
      a.tables,
      [&](const auto& decoded, int at, auto& sums) {
        multiply_units<Units, 2, 1>(decoded, staged, 0, at, sums);
      },
      [&](int row, float g, float u) { out[row] = silu(g) * u; });
}
// One of them alone, into shared memory.
template <class Units>
DW_DEVICE void expert_rows(const GateUpArguments& a, const uint8_t* rows, uint32_t row_bytes, int count,
                           const StagedAny& staged, float* out) {
  const RowLoop<Units, 1, 1, 2> loop(rows, nullptr, row_bytes, count, int(a.x.columns));
  loop.run(
      a.tables,
      [&](const auto& decoded, int at, auto& sums) {
        multiply_units<Units, 1, 1>(decoded, staged, 0, at, sums);
      },
      [&](int row, int, float total) { out[row] = total; });
}

// Grid: row blocks, experts of a token, tokens.
// kMixed: gate and up differ in type, of the experts or of the shared one. A kernel of its own, so that the
// usual one stays within the scalar registers of gfx906.
template <bool kMixed>
__global__ void DW_LAUNCH_BOUNDS(kGemvThreads, 3) gate_up_kernel(const DW_GRID_CONSTANT GateUpArguments a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float both[2][kGateUpRows];
  wait_for_previous();
  allow_next();
  const int slot = int(blockIdx.y), token = int(blockIdx.z);
  const bool is_shared = slot == a.top_k;
  const int first_matrix = is_shared ? 2 : 0;
  const ExpertMatrix& gate = a.matrices[first_matrix];
  const ExpertMatrix& up = a.matrices[first_matrix + 1];
  const int64_t expert = is_shared ? 0 : a.experts[token * a.top_k + slot];
  const int first_row = int(blockIdx.x) * kGateUpRows, count = min(kGateUpRows, a.width - first_row);
  const uint8_t* gate_rows =
      gate.data + uint64_t(expert) * gate.expert_bytes + uint64_t(first_row) * gate.row_bytes;
  const uint8_t* up_rows = up.data + uint64_t(expert) * up.expert_bytes + uint64_t(first_row) * up.row_bytes;
  if (threadIdx.x == 0) prefetch_weights(gate_rows, uint32_t(count) * gate.row_bytes);
  if (threadIdx.x == kWave) prefetch_weights(up_rows, uint32_t(count) * up.row_bytes);
  const StagedAny staged = stage_for(shared, a.x, token, gate.type, up.type);
  __syncthreads();
  if constexpr (!kMixed) {
    float* out = a.hidden + (int64_t(token) * a.experts_per_token + slot) * a.width + first_row;
    visit_units(gate.type, [&](auto units) {
      gate_up_pairs<decltype(units)>(a, gate_rows, up_rows, gate.row_bytes, count, staged, out);
    });
  } else {
#pragma unroll 1
    for (int which = 0; which < 2; ++which) {
      const GateUpArguments again = arguments_again(a);
      const ExpertMatrix& m = a.matrices[first_matrix + which];
      const uint8_t* rows = m.data + uint64_t(expert) * m.expert_bytes + uint64_t(first_row) * m.row_bytes;
      const int row_count = min(kGateUpRows, again.width - first_row);
      visit_units(m.type, [&](auto units) {
        expert_rows<decltype(units)>(again, rows, m.row_bytes, row_count, staged, both[which]);
      });
    }
    __syncthreads();
    const GateUpArguments again = arguments_again(a);
    float* out = again.hidden + (int64_t(token) * again.experts_per_token + slot) * again.width + first_row;
    const int row = int(threadIdx.x);
    if (row < min(kGateUpRows, again.width - first_row)) out[row] = silu(both[0][row]) * both[1][row];
  }
}

// Grid: row blocks, tokens.
__global__ void DW_LAUNCH_BOUNDS(kGemvThreads, 3) down_kernel(const DW_GRID_CONSTANT DownArguments a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ const uint8_t* bases[kMaxExperts];
  __shared__ float row_weights[kMaxExperts];
  const int token = int(blockIdx.y), first_row = int(blockIdx.x) * kDownRows;
  const int count = min(kDownRows, a.rows - first_row), experts = a.experts_per_token;
  // What the router chose is older than the launch before this one, but that is all that is known of it.
  wait_for_previous();
  allow_next();
  const int i = int(threadIdx.x);
  if (i < experts) {
    const ChosenRow chosen = chosen_row(a, token, i, first_row);
    bases[i] = chosen.rows;
    row_weights[i] = chosen.weight;
    prefetch_weights(chosen.rows, uint32_t(count) * (i == a.top_k ? a.shared_down : a.down).row_bytes);
  }
  __syncthreads();
  const StagedAny staged = stage_hidden(a, shared, token, row_weights);
  __syncthreads();
  float* out = a.out + int64_t(token) * a.rows + first_row;
  down_all(
      a, [&](int e) { return bases[e]; }, count, staged, out);
}

// Shared memory of `rows` activations for weights of two types.
size_t shared_bytes(int rows, int64_t columns, quant::Type a, quant::Type b) {
  size_t bytes = 0;
  if (is_float_type(a) || is_float_type(b)) bytes += size_t(rows) * size_t(padded_columns(int(columns))) * 4;
  if (!is_float_type(a) || !is_float_type(b))
    bytes += staged_bytes(rows, columns, is_fine_type(a) || is_fine_type(b));
  return bytes;
}

// Rows [0, rows / 2) and the rest of merged matrices.
ExpertMatrix half_of(const ops::Matrix& merged, int64_t half) {
  ExpertMatrix m = expert_matrix(merged);
  m.data += uint64_t(half) * (m.expert_bytes / 2);
  return m;
}

Work gate_up_work(const ops::Moe& op, int64_t pairs, int64_t width) {
  const ops::Matrix& m = op.gate_up ? op.gate_up : op.gate;
  const double bytes = double(m.row_stride()) * (op.gate_up ? 2.0 : 1.0) * double(width);
  return {"experts gate up", double(pairs) * (op.gate_up ? bytes : bytes + double(op.up.matrix_bytes())),
          4.0 * double(pairs) * double(width) * double(op.x.columns)};
}

void queue_gate_up(Context& context, const Work& work, const GateUpArguments& a, int64_t tokens,
                   size_t room) {
#if defined(DW_GPU_CUDA)
  if (gate_up_stream(context, work, a, tokens, room)) return;
#endif
  const bool has_shared = a.experts_per_token > a.top_k;
  const bool mixed =
      a.matrices[0].type != a.matrices[1].type || (has_shared && a.matrices[2].type != a.matrices[3].type);
  const auto kernel = mixed ? gate_up_kernel<true> : gate_up_kernel<false>;
  allow_shared_bytes(kernel, room);
  launch(context, mixed ? "gate_up_kernel<mixed>" : "gate_up_kernel", work, kernel,
         dim3(ceil_div(a.width, kGateUpRows), uint32_t(a.experts_per_token), uint32_t(tokens)),
         dim3(kGemvThreads), room, a);
}
void queue_down(Context& context, const Work& work, const DownArguments& a, int64_t tokens, size_t room) {
#if defined(DW_GPU_CUDA)
  if (down_stream(context, work, a, tokens, room)) return;
#endif
  allow_shared_bytes(down_kernel, room);
  launch(context, "down_kernel", work, down_kernel, dim3(ceil_div(a.rows, kDownRows), uint32_t(tokens)),
         dim3(kGemvThreads), room, a);
}

}  // namespace

void moe_decode(Context& context, const ops::Moe& op, const MoeChoice& choice, float* hidden) {
  const int64_t width = op.down.columns, tokens = op.x.tokens;
  const bool has_shared = bool(op.shared_gate);
  const int experts = op.top_k + (has_shared ? 1 : 0);
  DW_CHECK(experts <= kMaxExperts, "too many experts a token");
  GateUpArguments g = {};
  g.x = op.x;
  g.matrices[0] = op.gate_up ? half_of(op.gate_up, 0) : expert_matrix(op.gate);
  g.matrices[1] = op.gate_up ? half_of(op.gate_up, 1) : expert_matrix(op.up);
  if (has_shared) g.matrices[2] = expert_matrix(op.shared_gate), g.matrices[3] = expert_matrix(op.shared_up);
  g.experts = choice.experts;
  g.hidden = hidden;
  g.top_k = op.top_k;
  g.experts_per_token = experts;
  g.width = int32_t(width);
  g.tables = context.tables;
  size_t room = shared_bytes(1, op.x.columns, g.matrices[0].type, g.matrices[1].type);
  if (has_shared)
    room = std::max(room, shared_bytes(1, op.x.columns, g.matrices[2].type, g.matrices[3].type));
  queue_gate_up(context, gate_up_work(op, tokens * experts, width), g, tokens, room);

  DownArguments d = {};
  d.down = expert_matrix(op.down);
  if (has_shared) d.shared_down = expert_matrix(op.shared_down);
  d.experts = choice.experts;
  d.weights = choice.weights;
  d.shared_weight = choice.shared_weight;
  d.hidden = hidden;
  d.out = op.out;
  d.top_k = op.top_k;
  d.experts_per_token = experts;
  d.width = int32_t(width);
  d.rows = int32_t(op.down.rows);
  d.tables = context.tables;
  const Work down_work = {
      "experts down",
      double(tokens) * (experts * double(op.down.matrix_bytes()) + 8.0 * double(op.down.rows)),
      2.0 * double(tokens * experts) * double(op.down.rows) * double(width)};
  room = shared_bytes(experts, width, d.down.type, has_shared ? d.shared_down.type : d.down.type);
  queue_down(context, down_work, d, tokens, room);
}

}  // namespace dw::gpu
