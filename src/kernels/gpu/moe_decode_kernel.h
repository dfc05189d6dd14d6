// What the decode kernels of the experts share, the portable ones and Hopper's.
#pragma once

#include "kernels/gpu/gemv_core.h"

namespace dw::gpu {

inline constexpr int kMaxExperts = 64;  // of a token, the shared one included
inline constexpr int kGateUpRows = 16;  // outputs a block
inline constexpr int kDownRows = 8;

struct ExpertMatrix {
  const uint8_t* data;
  uint64_t expert_bytes;
  uint32_t row_bytes;
  quant::Type type;
};

struct GateUpArguments {
  ops::Activations x;
  ExpertMatrix matrices[4];  // gate, up; of the shared expert: gate, up
  const int32_t* experts;    // [tokens, top_k]
  float* hidden;             // [tokens, experts_per_token, width]
  int32_t top_k, experts_per_token, width;
  IqTables tables;
};

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
// row, its lanes over the units of all experts. rows_of(expert): the block's first row of an expert.
template <class Units, class RowsOf>
DW_DEVICE void down_rows(const DownArguments& a, const RowsOf& rows_of, uint32_t row_bytes, int begin,
                         int end, int count, const StagedAny& staged, float* out) {
  constexpr int kDepth = 2;
  const int units = Units::count(a.width), lane = int(threadIdx.x) % kWave;
  const int steps = ((end - begin) * units + kWave - 1) / kWave;
  const int phase = lane % units;  // units is a multiple of 8 where a block has eight of them
  const int step_experts = kWave / units, step_units = kWave % units;
  struct Place {
    int expert, unit;
  };
  const auto advance = [&](Place& p) {
    p.expert += step_experts, p.unit += step_units;
    if (p.unit >= units) p.unit -= units, ++p.expert;
  };
  for (int row = int(threadIdx.x) / kWave; row < count; row += kGemvThreads / kWave) {
    typename Units::Raw raw[kDepth][1];
    Place next = {begin + lane / units, lane % units}, here = next;
    const uint32_t offset = uint32_t(row) * row_bytes;
    const auto fetch = [&](typename Units::Raw& to) {
      if (next.expert < end) to = Units::fetch(rows_of(next.expert) + offset, a.width, next.unit);
      advance(next);
    };
#pragma unroll
    for (int i = 0; i < kDepth; ++i) fetch(raw[i][0]);
    float sums[1] = {0};
    for (int step = 0; step < steps; step += kDepth) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const typename Units::Unit decoded[1] = {Units::decode(raw[i][0], phase, a.tables)};
        fetch(raw[i][0]);
        if (here.expert < end) multiply_units<Units, 1, 1>(decoded, staged, here.expert, here.unit, sums);
        advance(here);
      }
    }
    const float total = lanes_sum(sums[0]);
    if (lane == 0) out[row] += total;
  }
}

// Whether one loop covers the routed experts and the shared one.
DW_DEVICE bool same_down(const DownArguments& a) {
  return a.experts_per_token == a.top_k ||
         (a.down.type == a.shared_down.type && a.down.row_bytes == a.shared_down.row_bytes);
}
template <class RowsOf>
DW_DEVICE void down_all(const DownArguments& a, const RowsOf& rows_of, int count, const StagedAny& staged,
                        float* out) {
  const int experts = a.experts_per_token, routed = same_down(a) ? experts : a.top_k;
  // Not a loop over both: what each type's code needs would be computed, and spilled, ahead of it.
  visit_units(a.down.type, [&](auto units) {
    down_rows<decltype(units)>(a, rows_of, a.down.row_bytes, 0, routed, count, staged, out);
  });
  if (routed < experts)
    visit_units(a.shared_down.type, [&](auto units) {
      down_rows<decltype(units)>(a, rows_of, a.shared_down.row_bytes, routed, experts, count, staged, out);
    });
}

// The hidden rows of a token's experts, each times its weight, for weights of either type.
DW_DEVICE StagedAny stage_hidden(const DownArguments& a, uint8_t* shared, int token,
                                 const float* row_weights) {
  const int experts = a.experts_per_token;
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
      for (int c = int(threadIdx.x); c < staged.padded; c += kGemvThreads)
        reinterpret_cast<float*>(shared)[e * staged.padded + c] =
            c < a.width ? row_weights[e] * hidden[e * a.width + c] : 0.0f;
  if (!is_float_type(type) || !is_float_type(shared_type))
    stage_values(staged.rows, hidden, experts, experts, a.width, fine, row_weights);
  return staged;
}

// Row weights of a token, and the addresses of its experts' first_row (expert i by thread i).
struct ChosenRow {
  const uint8_t* rows;
  float weight;
};
DW_DEVICE ChosenRow chosen_row(const DownArguments& a, int token, int i, int first_row) {
  const bool is_shared = i == a.top_k;
  const ExpertMatrix& m = is_shared ? a.shared_down : a.down;
  const int64_t expert = is_shared ? 0 : a.experts[token * a.top_k + i];
  return {m.data + uint64_t(expert) * m.expert_bytes + uint64_t(first_row) * m.row_bytes,
          !is_shared                   ? a.weights[token * a.top_k + i]
          : a.shared_weight != nullptr ? a.shared_weight[token]
                                       : 1.0f};
}

// On Hopper (sm90/moe_decode_stream.cu); false: does not fit, nothing queued.
bool gate_up_stream(Context& context, const Work& work, const GateUpArguments& a, int64_t tokens,
                    size_t staged);
bool down_stream(Context& context, const Work& work, const DownArguments& a, int64_t tokens, size_t staged);

}  // namespace dw::gpu
