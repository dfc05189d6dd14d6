// The decode experts on Hopper: each block chooses the experts itself and has their weights on the way to
// shared memory by bulk copies before it touches an activation. down's blocks fit beside gate_up's and fetch
// their weights while those still run. gate_up leaves its result quantised, in groups of the 32 rows that a
// block has.
#include <algorithm>

#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/moe_stream.h"
#include "kernels/gpu/sm90/moe_stream_device.h"

namespace dw::gpu {
namespace {

constexpr uint32_t kRingBytes = 37 << 10;    // of a block of gate_up, where a row allows
constexpr uint32_t kQ4RoomBytes = 80 << 10;  // all rows of such a block, at most

struct StreamGateUp {
  ops::Activations x;
  ExpertMatrix matrices[4];  // gate, up; of the shared expert: gate, up
  ExpertSource source;
  HiddenPlanes hidden;
  int32_t experts_per_token, width;
  uint32_t staged_room, ring_bytes;
  bool fine;  // the residual is wanted
  IqTables tables;
};
struct StreamDown {
  ExpertMatrix down, shared_down;
  ExpertSource source;
  HiddenPlanes hidden;
  float* out;  // [tokens, rows]
  int32_t experts_per_token, width, rows;
  uint32_t staged_room;
  IqTables tables;
};

// A token's choice by one wave: lane i < top_k has the i-th. Safe before the launch in front has ended, if
// that one began only when the choice or the logits were complete.
template <bool kWeigh>
DW_DEVICE Chosen choose_of(const ExpertSource& s, int token, ChooseRoom& room) {
  const int lane = int(threadIdx.x) % kWave;
  if (s.logits == nullptr) {
    Chosen mine = {0, 0};
    if (lane < s.top_k) {
      mine.expert = __ldcg(s.given.experts + token * s.top_k + lane);
      if constexpr (kWeigh) mine.weight = __ldcg(s.given.weights + token * s.top_k + lane);
    }
    return mine;
  }
  const float* row = s.logits + int64_t(token) * (s.expert_count + 1);
  const auto load = [&](int e) { return __ldcg(row + e); };
  constexpr int kFew = 16;  // values a lane
  if (s.expert_count <= kFew * kWave)
    return choose_top_fast<kFew, kWeigh>(s.expert_count, s.top_k, s.normalise, room, load);
  return choose_top_slow<kWeigh>(s.expert_count, s.top_k, s.normalise, load);
}
DW_DEVICE float shared_weight_of(const ExpertSource& s, int token) {
  if (s.logits != nullptr)
    return s.weigh_shared ? sigmoid(__ldcg(s.logits + int64_t(token) * (s.expert_count + 1) + s.expert_count))
                          : 1.0f;
  return s.given.shared_weight != nullptr ? __ldcg(s.given.shared_weight + token) : 1.0f;
}

// Grid: groups of 32 outputs, experts of a token, tokens. kQ4: gate and up are Q4_K, the shared expert's too,
// and the rings whole.
template <bool kQ4>
__global__ void __launch_bounds__(kGemvThreads, 3)
    gate_up_stream_kernel(const DW_GRID_CONSTANT StreamGateUp a) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ uint64_t barriers[kMoeWaves][kPairs];
  __shared__ ChooseRoom room;
  __shared__ int32_t chosen_expert;
  __shared__ float results[kBlockOutputs];
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int slot = int(blockIdx.y), token = int(blockIdx.z);
  const bool is_shared = slot == a.source.top_k;
  const ExpertMatrix& gate = a.matrices[is_shared ? 2 : 0];
  const ExpertMatrix& up = a.matrices[is_shared ? 3 : 1];
  const uint32_t row_bytes = gate.row_bytes;
  const auto ring_of = [&](int w, int64_t expert) {
    PairRing ring;
    const uint64_t offset = uint64_t(int(blockIdx.x) * kBlockOutputs + w * kPairs) * row_bytes;
    ring.row_bytes = row_bytes;
    ring.slot_count = min(kPairs, int(a.ring_bytes / uint32_t(kMoeWaves) / (2 * row_bytes)));
    ring.slots = shared + a.staged_room + uint32_t(w * ring.slot_count) * 2 * row_bytes;
    ring.barriers = barriers[w];
    ring.gate = gate.data + uint64_t(expert) * gate.expert_bytes + offset;
    ring.up = up.data + uint64_t(expert) * up.expert_bytes + offset;
    return ring;
  };
  // The first wave starts the copies of all.
  const auto start = [&](int64_t expert) {
    if (lane >= kMoeWaves) return;
    const PairRing ring = ring_of(lane, expert);
    if constexpr (kQ4)
      ring.start_whole();
    else
      ring.start();
  };
  if (wave == 0) {
    if (lane < kMoeWaves) {
      for (int p = 0; p < kPairs; ++p) init_barrier(barriers[lane] + p);
      publish_barriers();
    }
    if (is_shared) start(0);
  }
  wait_for_previous();
  allow_next();
  StagedAny staged = {};
  staged.rows = StagedRows::at(shared, 1, int(a.x.columns) / 32, is_fine_type(gate.type));
  if (wave == 0) {
    if (!is_shared) {
      const Chosen mine = choose_of<false>(a.source, token, room);
      const int expert = lane_read(mine.expert, slot);
      start(expert);
      if (lane == 0) chosen_expert = expert;
    }
  } else {
    stage_row(staged.rows, 0, a.x, token, is_fine_type(gate.type), int(threadIdx.x) - kWave,
              kGemvThreads - kWave);
  }
  __syncthreads();
  const PairRing ring = ring_of(wave, is_shared ? 0 : chosen_expert);
  if constexpr (kQ4) {
    multiply_q4_pairs<1>(ring, int(a.x.columns), staged.rows, 1,
                         [&](int p, int, float g, float u) { results[wave * kPairs + p] = silu(g) * u; });
  } else {
    visit_quantised_type(gate.type, [&](auto type) {
      using Units = QuantisedUnits<type.value>;
      const int columns = int(a.x.columns), units = Units::count(columns);
#pragma unroll 1
      for (int p = 0; p < kPairs; ++p) {
        const uint8_t* rows = ring.wait(p);
        float sums[2] = {};
#pragma unroll(Units::kFine ? 1 : 2)
        for (int at = lane; at < units; at += kWave) {
          typename Units::Unit decoded[2];
#pragma unroll
          for (int r = 0; r < 2; ++r)
            decoded[r] =
                Units::decode(Units::fetch(rows + uint32_t(r) * row_bytes, columns, at), lane, a.tables);
          multiply_units<Units, 2, 1>(decoded, staged, 0, at, sums);
        }
        __syncwarp();
        if (lane == 0 && p + ring.slot_count < kPairs) ring.fill(p + ring.slot_count);
        const float total = sum_values_of_wave(sums, lane), up_total = lane_xor(total, 1);
        if (lane == 0) results[wave * kPairs + p] = silu(total) * up_total;
      }
    });
  }
  __syncthreads();
  if (wave == 0)
    store_hidden(a.hidden, token * a.experts_per_token + slot, a.width / 32, int(blockIdx.x), results[lane],
                 a.fine);
}

// The rows of one type: experts [begin, end); waves have kRows rows each. weights: the block's rows of expert
// `begin`, then of the next.
template <class Units, int kRows>
DW_DEVICE void down_part(const StreamDown& a, const uint8_t* weights, uint32_t row_bytes, int begin, int end,
                         const StagedAny& staged, float (&sums)[kRows]) {
  const int units = Units::count(a.width), lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int all = (end - begin) * units, phase = lane % units;
  const int step_experts = kWave / units, step_units = kWave % units;
  int expert = lane / units, unit = lane % units;
#pragma unroll 2
  for (int at = lane; at < all; at += kWave) {
    typename Units::Unit decoded[kRows];
    const uint8_t* rows = weights + uint32_t(expert * kMoeWaves * kRows + wave * kRows) * row_bytes;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      decoded[r] =
          Units::decode(Units::fetch(rows + uint32_t(r) * row_bytes, a.width, unit), phase, a.tables);
    multiply_units<Units, kRows, 1>(decoded, staged, begin + expert, unit, sums);
    expert += step_experts, unit += step_units;
    if (unit >= units) unit -= units, ++expert;
  }
}

// As down_part for all experts, Q4_K; a lane has whole blocks.
template <int kRows>
DW_DEVICE void down_q4(const StreamDown& a, const uint8_t* weights, const StagedRows& x,
                       float (&sums)[kRows]) {
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int blocks = a.width / 256, order = (lane ^ lane / 8) % 8;
  for (int at = lane; at < a.experts_per_token * blocks; at += kWave) {
    const int expert = at / blocks;
    const uint8_t* rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      rows[r] = weights + uint32_t((expert * kMoeWaves + wave) * kRows + r) * a.down.row_bytes;
    multiply_q4_block<kRows, 1>(rows, a.width, at % blocks, x, expert, 1, order, sums);
  }
}

// Grid: row blocks, tokens. kQ4: all experts are Q4_K.
template <int kRows, bool kQ4>
__global__ void __launch_bounds__(kGemvThreads, 3) down_stream_kernel(const DW_GRID_CONSTANT StreamDown a) {
  constexpr int kBlockRows = kRows * kMoeWaves;
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float row_weights[kMoeMaxExperts];
  __shared__ uint64_t barrier;
  __shared__ ChooseRoom room;
  const int token = int(blockIdx.y), first_row = int(blockIdx.x) * kBlockRows;
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int experts = a.experts_per_token, top_k = a.source.top_k;
  const bool has_shared = experts > top_k;
  const uint32_t routed_bytes = kBlockRows * a.down.row_bytes;
  const uint32_t shared_bytes = has_shared ? kBlockRows * a.shared_down.row_bytes : 0;
  uint8_t* weights = shared + a.staged_room;
  if (wave == 0) {
    // The launch in front began its last block only when the router's values were complete.
    if (lane == 0) {
      init_barrier(&barrier);
      publish_barriers();
      expect_bytes(&barrier, uint32_t(top_k) * routed_bytes + shared_bytes);
      if (has_shared) {
        copy_bulk(weights + uint32_t(top_k) * routed_bytes,
                  a.shared_down.data + uint64_t(first_row) * a.shared_down.row_bytes, shared_bytes, &barrier);
        row_weights[top_k] = shared_weight_of(a.source, token);
      }
    }
    __syncwarp();
    const Chosen mine = choose_of<true>(a.source, token, room);
    if (lane < top_k) {
      copy_bulk(
          weights + uint32_t(lane) * routed_bytes,
          a.down.data + uint64_t(mine.expert) * a.down.expert_bytes + uint64_t(first_row) * a.down.row_bytes,
          routed_bytes, &barrier);
      row_weights[lane] = mine.weight;
    }
  }
  __syncthreads();
  wait_for_previous();
  allow_next();
  const int chunks = a.width / 32, words = 2 * experts * chunks;
  const bool fine = is_fine_type(a.down.type) || (has_shared && is_fine_type(a.shared_down.type));
  StagedAny staged = {};
  staged.rows = StagedRows::at(shared, experts, chunks, fine);
  float* out = a.out + int64_t(token) * a.rows + first_row + wave * kRows;
  const float before = lane < kRows ? __ldcg(out + lane) : 0.0f;
  for (int i = int(threadIdx.x); i < words; i += kGemvThreads) {
    staged.rows.quants[i] = __ldcg(a.hidden.quants + token * words + i);
    if (fine) staged.rows.residual[i] = __ldcg(a.hidden.residual + token * words + i);
  }
  for (int i = int(threadIdx.x); i < experts * chunks; i += kGemvThreads) {
    const float scale = row_weights[i / chunks] * __ldcg(a.hidden.scale + token * experts * chunks + i);
    const int sums = __ldcg(a.hidden.sums + token * experts * chunks + i);
    staged.rows.scale[i] = scale;
    staged.rows.sum[i] = scale * float(int16_t(sums) + (sums >> 16));
    staged.rows.first_sum[i] = scale * float(int16_t(sums));
  }
  __syncthreads();
  wait_barrier(&barrier, 0);
  const bool same = !has_shared || (a.down.type == a.shared_down.type);
  float sums[kRows] = {};
  if constexpr (kQ4) {
    down_q4<kRows>(a, weights, staged.rows, sums);
  } else {
#pragma unroll 1
    for (int part = 0; part < (same ? 1 : 2); ++part) {
      const ExpertMatrix& m = part == 0 ? a.down : a.shared_down;
      visit_quantised_type(m.type, [&](auto type) {
        down_part<QuantisedUnits<type.value>, kRows>(
            a, weights + (part == 0 ? 0u : uint32_t(top_k) * routed_bytes), m.row_bytes,
            part == 0 ? 0 : top_k, part == 0 && !same ? top_k : experts, staged, sums);
      });
    }
  }
  const float total = sum_values_of_wave(sums, lane);
  if (lane < kRows) out[lane] = before + total;
}

uint32_t round_up_128(size_t bytes) {
  return uint32_t((bytes + 127) / 128 * 128);
}
bool quantised(const ops::Matrix& m) {
  return !is_float_type(m.type);
}

// Sizes of one call; also whether it fits.
struct Plan {
  uint32_t gate_up_staged = 0, ring_bytes = 0, down_staged = 0;
  size_t gate_up_shared = 0, down_shared = 0;
  int down_rows = 0;  // of a wave; 0: does not fit
  bool fine_hidden = false;
  bool gate_up_q4 = false, down_q4 = false;
};

Plan plan_of(const Context& context, const ops::Moe& op) {
  Plan plan;
  const bool has_shared = bool(op.shared_gate);
  const GateUp both = gate_and_up(op);
  const int64_t columns = op.x.columns, width = op.down.columns;
  if (context.limits.architecture < 900 || op.x.tokens > kMoeDecodeTokens || op.top_k > kMaxTopK) return plan;
  if (both.gate.type != both.up.type || !quantised(both.gate) || !quantised(op.down)) return plan;
  if (has_shared && (op.shared_gate.type != op.shared_up.type || !quantised(op.shared_gate) ||
                     !quantised(op.shared_down) || op.shared_down.columns != width))
    return plan;
  if (width % kBlockOutputs != 0 || columns % 32 != 0) return plan;
  const uint64_t most = context.limits.shared_bytes_block - 4096;
  const bool fine = is_fine_type(both.gate.type) || (has_shared && is_fine_type(op.shared_gate.type));
  plan.gate_up_staged = round_up_128(staged_bytes(1, columns, fine));
  const uint64_t row_bytes =
      std::max(both.gate.row_stride(), has_shared ? op.shared_gate.row_stride() : uint64_t(0));
  const uint64_t one_slot = uint64_t(kMoeWaves) * 2 * row_bytes;
  const auto q4 = [](const ops::Matrix& m) { return m.type == quant::Type::Q4_K; };
  plan.gate_up_q4 = q4(both.gate) && (!has_shared || q4(op.shared_gate)) && kPairs * one_slot <= kQ4RoomBytes;
  plan.ring_bytes = uint32_t(plan.gate_up_q4 ? kPairs * one_slot
                                             : std::clamp<uint64_t>(kRingBytes, one_slot, kPairs * one_slot));
  plan.gate_up_shared = plan.gate_up_staged + plan.ring_bytes;
  plan.down_q4 = q4(op.down) && (!has_shared || q4(op.shared_down));
  if (plan.gate_up_shared > most) return plan;
  const int experts = op.top_k + (has_shared ? 1 : 0);
  plan.fine_hidden = is_fine_type(op.down.type) || (has_shared && is_fine_type(op.shared_down.type));
  plan.down_staged = round_up_128(staged_bytes(experts, width, plan.fine_hidden));
  // Two rows a wave, so that all blocks fit beside those of gate_up; but for one token in the general way,
  // which is bound by its instructions and wants more waves.
  for (int rows = op.x.tokens == 1 && !plan.down_q4 ? 1 : 2; rows > 0; --rows) {
    const uint64_t weights = uint64_t(rows * kMoeWaves) * (uint64_t(op.top_k) * op.down.row_stride() +
                                                           (has_shared ? op.shared_down.row_stride() : 0));
    plan.down_shared = plan.down_staged + weights;
    if (op.down.rows % (rows * kMoeWaves) == 0 && plan.down_shared <= most) {
      plan.down_rows = rows;
      break;
    }
  }
  return plan;
}

HiddenPlanes planes_of(float* hidden, int64_t rows, int64_t width) {
  HiddenPlanes planes = {};
  uint8_t* at = reinterpret_cast<uint8_t*>(hidden);
  planes.quants = reinterpret_cast<int4*>(at), at += rows * width;
  planes.residual = reinterpret_cast<int4*>(at), at += rows * width;
  planes.scale = reinterpret_cast<float*>(at), at += rows * (width / 32) * 4;
  planes.sums = reinterpret_cast<int*>(at);
  return planes;
}

}  // namespace

bool moe_decode_stream_fits(const Context& context, const ops::Moe& op) {
  return plan_of(context, op).down_rows > 0;
}

bool moe_decode_stream(Context& context, const ops::Moe& op, const ExpertSource& source, float* hidden) {
  const Plan plan = plan_of(context, op);
  if (plan.down_rows == 0) return false;
  const int64_t width = op.down.columns, tokens = op.x.tokens;
  const bool has_shared = bool(op.shared_gate);
  const int experts = op.top_k + (has_shared ? 1 : 0);
  const GateUp both = gate_and_up(op);
  StreamGateUp g = {};
  g.x = op.x;
  g.matrices[0] = expert_matrix(both.gate), g.matrices[1] = expert_matrix(both.up);
  g.matrices[0].expert_bytes = both.gate_bytes, g.matrices[1].expert_bytes = both.up_bytes;
  if (has_shared) g.matrices[2] = expert_matrix(op.shared_gate), g.matrices[3] = expert_matrix(op.shared_up);
  g.source = source;
  g.hidden = planes_of(hidden, tokens * experts, width);
  g.experts_per_token = experts, g.width = int32_t(width);
  g.staged_room = plan.gate_up_staged, g.ring_bytes = plan.ring_bytes;
  g.fine = plan.fine_hidden;
  g.tables = context.tables;
  const double pairs = double(tokens) * experts;
  const Work gate_up_work = {"experts gate up", pairs * 2 * double(both.gate.row_stride()) * double(width),
                             4.0 * pairs * double(width) * double(op.x.columns)};
  const auto run_gate_up = [&](auto kernel) {
    allow_shared_bytes(kernel, plan.gate_up_shared);
    prefer_shared_memory(kernel);
    launch(context, "gate_up_stream_kernel", gate_up_work, kernel,
           dim3(uint32_t(width / kBlockOutputs), uint32_t(experts), uint32_t(tokens)), dim3(kGemvThreads),
           plan.gate_up_shared, g);
  };
  if (plan.gate_up_q4)
    run_gate_up(gate_up_stream_kernel<true>);
  else
    run_gate_up(gate_up_stream_kernel<false>);

  StreamDown d = {};
  d.down = expert_matrix(op.down);
  if (has_shared) d.shared_down = expert_matrix(op.shared_down);
  d.source = source;
  d.hidden = g.hidden;
  d.out = op.out;
  d.experts_per_token = experts, d.width = int32_t(width), d.rows = int32_t(op.down.rows);
  d.staged_room = plan.down_staged;
  d.tables = context.tables;
  const Work down_work = {
      "experts down", pairs * double(op.down.matrix_bytes()) + double(tokens) * 8.0 * double(op.down.rows),
      2.0 * pairs * double(op.down.rows) * double(width)};
  const auto run = [&](auto kernel) {
    allow_shared_bytes(kernel, plan.down_shared);
    prefer_shared_memory(kernel);
    launch(context, "down_stream_kernel", down_work, kernel,
           dim3(uint32_t(op.down.rows / (plan.down_rows * kMoeWaves)), uint32_t(tokens)), dim3(kGemvThreads),
           plan.down_shared, d);
  };
  if (plan.down_rows == 2 && plan.down_q4)
    run(down_stream_kernel<2, true>);
  else if (plan.down_rows == 2)
    run(down_stream_kernel<2, false>);
  else if (plan.down_q4)
    run(down_stream_kernel<1, true>);
  else
    run(down_stream_kernel<1, false>);
  return true;
}

}  // namespace dw::gpu
