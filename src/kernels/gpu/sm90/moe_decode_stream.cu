// The decode experts on Hopper: as moe_decode.cu, with the weights of a block on their way to shared memory
// by bulk copies as soon as the chosen experts are known.
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_decode_kernel.h"
#include "kernels/gpu/sm90/bulk_copy.h"

namespace dw::gpu {
namespace {

constexpr int kWaves = kGemvThreads / kWave;
constexpr int kWaveOutputs = kGateUpRows / kWaves;  // of gate_up: as many rows of gate, then of up
static_assert(kWaveOutputs == 2);

// Grid: row blocks, experts of a token, tokens. Gate and up have one type; a row fills a wave.
__global__ void __launch_bounds__(kGemvThreads, 3)
    gate_up_stream_kernel(const DW_GRID_CONSTANT GateUpArguments a, uint32_t staged_room) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ uint64_t barriers[kWaves];
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  if (lane == 0) {
    init_barrier(barriers + wave);
    publish_barriers();
  }
  __syncwarp();
  wait_for_previous();
  allow_next();
  const int slot = int(blockIdx.y), token = int(blockIdx.z);
  const bool is_shared = slot == a.top_k;
  const ExpertMatrix& gate = a.matrices[is_shared ? 2 : 0];
  const ExpertMatrix& up = a.matrices[is_shared ? 3 : 1];
  const uint32_t row_bytes = gate.row_bytes;
  const int first_row = int(blockIdx.x) * kGateUpRows + wave * kWaveOutputs;
  uint8_t* rows = shared + staged_room + uint32_t(wave * 2 * kWaveOutputs) * row_bytes;
  if (lane == 0) {
    const int64_t expert = is_shared ? 0 : a.experts[token * a.top_k + slot];
    const uint32_t bytes = kWaveOutputs * row_bytes;
    const uint64_t offset = uint64_t(first_row) * row_bytes;
    expect_bytes(barriers + wave, 2 * bytes);
    copy_bulk(rows, gate.data + uint64_t(expert) * gate.expert_bytes + offset, bytes, barriers + wave);
    copy_bulk(rows + bytes, up.data + uint64_t(expert) * up.expert_bytes + offset, bytes, barriers + wave);
  }
  const StagedAny staged = stage_for(shared, a.x, token, gate.type, gate.type);
  __syncthreads();
  wait_barrier(barriers + wave, 0);
  float* out = a.hidden + (int64_t(token) * a.experts_per_token + slot) * a.width + first_row;
  visit_units(gate.type, [&](auto unit_kind) {
    using Units = decltype(unit_kind);
    const int columns = int(a.x.columns), units = Units::count(columns);
    float sums[4] = {};
#pragma unroll 2
    for (int at = lane; at < units; at += kWave) {
      typename Units::Unit decoded[4];
#pragma unroll
      for (int r = 0; r < 4; ++r)
        decoded[r] = Units::decode(Units::fetch(rows + uint32_t(r) * row_bytes, columns, at), lane, a.tables);
      multiply_units<Units, 4, 1>(decoded, staged, 0, at, sums);
    }
    // Lanes 0 and 1 have the gate's totals, 2 and 3 the up's.
    const float total = sum_values_of_wave(sums, lane), up_total = lane_xor(total, 2);
    if (lane < kWaveOutputs) out[lane] = silu(total) * up_total;
  });
}

// Grid: row blocks, tokens.
__global__ void __launch_bounds__(kGemvThreads, 3)
    down_stream_kernel(const DW_GRID_CONSTANT DownArguments a, uint32_t staged_room) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float row_weights[kMaxExperts];
  __shared__ uint64_t barrier;
  const int token = int(blockIdx.y), first_row = int(blockIdx.x) * kDownRows, i = int(threadIdx.x);
  const int experts = a.experts_per_token;
  const uint32_t routed_bytes = kDownRows * a.down.row_bytes;
  const uint32_t shared_bytes = experts > a.top_k ? kDownRows * a.shared_down.row_bytes : 0;
  if (i == 0) {
    init_barrier(&barrier);
    publish_barriers();
  }
  __syncthreads();
  wait_for_previous();
  allow_next();
  uint8_t* room = shared + staged_room;
  if (i == 0) expect_bytes(&barrier, uint32_t(a.top_k) * routed_bytes + shared_bytes);
  if (i < experts) {
    const ChosenRow chosen = chosen_row(a, token, i, first_row);
    row_weights[i] = chosen.weight;
    copy_bulk(room + uint32_t(i) * routed_bytes, chosen.rows, i == a.top_k ? shared_bytes : routed_bytes,
              &barrier);
  }
  __syncthreads();
  const StagedAny staged = stage_hidden(a, shared, token, row_weights);
  __syncthreads();
  wait_barrier(&barrier, 0);
  down_all(
      a, [&](int e) { return room + uint32_t(e) * routed_bytes; }, kDownRows, staged,
      a.out + int64_t(token) * a.rows + first_row);
}

uint32_t round_up_128(size_t bytes) {
  return uint32_t((bytes + 127) / 128 * 128);
}

}  // namespace

bool gate_up_stream(Context& context, const Work& work, const GateUpArguments& a, int64_t tokens,
                    size_t staged) {
  const bool has_shared = a.experts_per_token > a.top_k;
  const ExpertMatrix* m = a.matrices;
  if (context.limits.architecture < 900 || a.width % kGateUpRows != 0) return false;
  if (m[0].type != m[1].type || (has_shared && m[2].type != m[3].type)) return false;
  if (a.x.columns % 1024 != 0) return false;
  const uint32_t room = round_up_128(staged);
  const uint32_t row_bytes = has_shared && m[2].row_bytes > m[0].row_bytes ? m[2].row_bytes : m[0].row_bytes;
  const size_t shared = room + size_t(2 * kGateUpRows) * row_bytes;
  if (shared > context.limits.shared_bytes_block - 1024) return false;
  allow_shared_bytes(gate_up_stream_kernel, shared);
  launch(context, "gate_up_stream_kernel", work, gate_up_stream_kernel,
         dim3(uint32_t(a.width / kGateUpRows), uint32_t(a.experts_per_token), uint32_t(tokens)),
         dim3(kGemvThreads), shared, a, room);
  return true;
}

bool down_stream(Context& context, const Work& work, const DownArguments& a, int64_t tokens, size_t staged) {
  if (context.limits.architecture < 900 || a.rows % kDownRows != 0) return false;
  const uint32_t room = round_up_128(staged);
  const size_t shared_row = a.experts_per_token > a.top_k ? a.shared_down.row_bytes : 0;
  const size_t shared = room + size_t(kDownRows) * (size_t(a.top_k) * a.down.row_bytes + shared_row);
  if (shared > context.limits.shared_bytes_block - 1024) return false;
  allow_shared_bytes(down_stream_kernel, shared);
  launch(context, "down_stream_kernel", work, down_stream_kernel,
         dim3(uint32_t(a.rows / kDownRows), uint32_t(tokens)), dim3(kGemvThreads), shared, a, room);
  return true;
}

}  // namespace dw::gpu
