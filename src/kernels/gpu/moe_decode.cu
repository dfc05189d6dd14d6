// The experts of a few tokens, in two launches: gate and up of every (token, expert) with silu and product;
// then down of all experts of a token, weighted, summed and added to the residual. A block of the second owns
// its output rows over all experts, so that sums are made in one order.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/gemv_core.h"
#include "kernels/gpu/launch.h"
#if defined(DW_GPU_CUDA)
#include "kernels/gpu/sm90/moe_stream.h"
#endif

namespace dw::gpu {
namespace {

constexpr int kWaves = kGemvThreads / kWave;
constexpr int kMaxExperts = 64;  // of a token, the shared one included
constexpr int kGateUpRows = 16;  // outputs a block
constexpr int kDownRows = 8;

struct ExpertMatrix {
  const uint8_t* data;
  uint64_t expert_bytes;
  uint32_t row_bytes;
  quant::Type type;
};
ExpertMatrix expert_matrix(const ops::Matrix& m) {
  return {reinterpret_cast<const uint8_t*>(m.data), m.matrix_bytes(), uint32_t(m.row_stride()), m.type};
}

struct GateUpArguments {
  ops::Activations x;
  ExpertMatrix matrices[4];  // gate, up; of the shared expert: gate, up
  const int32_t* experts;    // [tokens, top_k]
  float* hidden;             // [tokens, experts_per_token, width]
  int32_t top_k, experts_per_token, width;
  IqTables tables;
};

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

// The token's activations, for weights of either type.
DW_DEVICE StagedAny stage_for(uint8_t* shared, const ops::Activations& x, int token, quant::Type a,
                              quant::Type b) {
  const int columns = int(x.columns);
  const bool fine = is_fine_type(a) || is_fine_type(b);
  const bool floats = is_float_type(a) || is_float_type(b);
  StagedAny staged;
  staged.padded = padded_columns(columns);
  staged.floats = reinterpret_cast<float*>(shared);
  staged.rows = StagedRows::at(shared + (floats ? size_t(staged.padded) * 4 : 0), 1, columns / 32, fine);
  ops::Activations row = x;
  row.tokens = 1;
  row.values += int64_t(token) * columns;
  if (floats) stage_floats(reinterpret_cast<float*>(shared), row, ops::Norm{}, 1, nullptr);
  if (!is_float_type(a) || !is_float_type(b)) {
    row.quants += int64_t(token) * columns;
    row.scales += int64_t(token) * (columns / 32);
    row.sums += int64_t(token) * (columns / 16);
    if (fine)
      stage_values(staged.rows, row.values, 1, 1, columns, true, nullptr);
    else
      stage_quantised(staged.rows, row, 1);
  }
  return staged;
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

struct DownArguments {
  ExpertMatrix down, shared_down;
  const int32_t* experts;      // [tokens, top_k]
  const float* weights;        // [tokens, top_k]
  const float* shared_weight;  // [tokens] or nullptr
  const float* hidden;         // [tokens, experts_per_token, width]
  float* out;                  // [tokens, rows]
  int32_t top_k, experts_per_token, width, rows;
  IqTables tables;
};

// out[row] += sum over experts [begin, end) of the staged rows' products with the experts' row; one wave a
// row, its lanes over the units of all experts.
template <class Units>
DW_DEVICE void down_rows(const DownArguments& a, const uint8_t* const* bases, uint32_t row_bytes, int begin,
                         int end, int count, const StagedAny& staged, float* out) {
  constexpr int kDepth = 2;
  const int units = Units::count(a.width), lane = int(threadIdx.x) % kWave;
  const int steps = ((end - begin) * units + kWave - 1) / kWave;
  const int step_experts = kWave / units, step_units = kWave % units;
  struct Place {
    int expert, unit;
  };
  const auto advance = [&](Place& p) {
    p.expert += step_experts, p.unit += step_units;
    if (p.unit >= units) p.unit -= units, ++p.expert;
  };
  for (int row = int(threadIdx.x) / kWave; row < count; row += kWaves) {
    typename Units::Raw raw[kDepth][1];
    Place next = {begin + lane / units, lane % units}, here = next;
    const uint64_t offset = uint64_t(row) * row_bytes;
    const auto fetch = [&](typename Units::Raw& to) {
      if (next.expert < end) to = Units::fetch(bases[next.expert] + offset, a.width, next.unit);
      advance(next);
    };
#pragma unroll
    for (int i = 0; i < kDepth; ++i) fetch(raw[i][0]);
    float sums[1] = {0};
    for (int step = 0; step < steps; step += kDepth) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const typename Units::Unit decoded[1] = {Units::decode(raw[i][0], here.unit, a.tables)};
        fetch(raw[i][0]);
        if (here.expert < end) multiply_units<Units, 1, 1>(decoded, staged, here.expert, here.unit, sums);
        advance(here);
      }
    }
    const float total = lanes_sum(sums[0]);
    if (lane == 0) out[row] += total;
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
    const bool is_shared = i == a.top_k;
    const ExpertMatrix& m = is_shared ? a.shared_down : a.down;
    const int64_t expert = is_shared ? 0 : a.experts[token * a.top_k + i];
    bases[i] = m.data + uint64_t(expert) * m.expert_bytes + uint64_t(first_row) * m.row_bytes;
    prefetch_weights(bases[i], uint32_t(count) * m.row_bytes);
    row_weights[i] = !is_shared                   ? a.weights[token * a.top_k + i]
                     : a.shared_weight != nullptr ? a.shared_weight[token]
                                                  : 1.0f;
  }
  __syncthreads();
  const quant::Type type = a.down.type, shared_type = experts > a.top_k ? a.shared_down.type : type;
  const bool fine = is_fine_type(type) || is_fine_type(shared_type);
  const bool floats = is_float_type(type) || is_float_type(shared_type);
  const float* hidden = a.hidden + int64_t(token) * experts * a.width;
  StagedAny staged;
  staged.padded = padded_columns(a.width);
  staged.floats = reinterpret_cast<float*>(shared);
  staged.rows = StagedRows::at(shared + (floats ? size_t(experts) * staged.padded * 4 : 0), experts,
                               a.width / 32, fine);
  if (floats)
    for (int e = 0; e < experts; ++e)
      for (int c = i; c < staged.padded; c += kGemvThreads)
        reinterpret_cast<float*>(shared)[e * staged.padded + c] =
            c < a.width ? row_weights[e] * hidden[e * a.width + c] : 0.0f;
  if (!is_float_type(type) || !is_float_type(shared_type))
    stage_values(staged.rows, hidden, experts, experts, a.width, fine, row_weights);
  __syncthreads();
  float* out = a.out + int64_t(token) * a.rows + first_row;
  const int routed = type == shared_type ? experts : a.top_k;
  visit_units(type, [&](auto units) {
    down_rows<decltype(units)>(a, bases, a.down.row_bytes, 0, routed, count, staged, out);
  });
  if (routed < experts)
    visit_units(shared_type, [&](auto units) {
      down_rows<decltype(units)>(a, bases, a.shared_down.row_bytes, routed, experts, count, staged, out);
    });
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

}  // namespace

void moe_decode(Context& context, const ops::Moe& op, const MoeChoice& choice, float* hidden) {
#if defined(DW_GPU_CUDA)
  ExpertSource source;
  source.given = choice, source.top_k = op.top_k;
  if (moe_decode_stream(context, op, source, hidden)) return;
#endif
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
  const bool mixed =
      g.matrices[0].type != g.matrices[1].type || (has_shared && g.matrices[2].type != g.matrices[3].type);
  const auto kernel = mixed ? gate_up_kernel<true> : gate_up_kernel<false>;
  allow_shared_bytes(kernel, room);
  launch(context, mixed ? "gate_up_kernel<mixed>" : "gate_up_kernel",
         gate_up_work(op, tokens * experts, width), kernel,
         dim3(ceil_div(width, kGateUpRows), uint32_t(experts), uint32_t(tokens)), dim3(kGemvThreads), room,
         g);

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
  allow_shared_bytes(down_kernel, room);
  launch(context, "down_kernel", down_work, down_kernel, dim3(ceil_div(d.rows, kDownRows), uint32_t(tokens)),
         dim3(kGemvThreads), room, d);
}

}  // namespace dw::gpu
