// Launches the two kernels of the chunked delta mixer on sm_90.
#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/delta_chunk.h"

namespace dw::gpu::hopper {
namespace {

// Shared memory and registers end at chunks of 64.
int32_t chunk_size(int32_t chunk) {
  return chunk >= 64 ? 64 : chunk >= 32 ? 32 : 16;
}

template <int kChunk, int kRatio>
void run_chunks(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan) {
  auto* tiles = reinterpret_cast<ChunkTiles<kChunk, kRatio>*>(context.scratch);
  const int64_t bound = chunk_bound(op.tokens, {kChunk, plan.min_rows, true});
  const int64_t cut = op.tokens / kChunk + context.batch.span_count;
  const uint32_t chunks = uint32_t(bound < cut ? bound : cut);
  if constexpr (kChunk == 64) {
    prepare_tiles<kRatio>(context, op, plan.chunked_from(), chunks, tiles);
    walk_chunks<kRatio>(context, op, plan.chunked_from(), tiles);
  } else {
    prepare_chunks<kChunk, kRatio>(context, op, plan.chunked_from(), chunks, tiles);
    scan_chunks<kChunk, kRatio>(context, op, plan.chunked_from(), tiles);
  }
}

template <int kChunk>
void run_chunks_of(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan) {
  switch (op.v_heads / op.k_heads) {
    case 1:
      return run_chunks<kChunk, 1>(context, op, plan);
    case 2:
      return run_chunks<kChunk, 2>(context, op, plan);
    default:
      return run_chunks<kChunk, 4>(context, op, plan);
  }
}

template <int kChunk>
uint64_t tile_bytes(const ops::DeltaMixer& op) {
  switch (op.v_heads / op.k_heads) {
    case 1:
      return sizeof(ChunkTiles<kChunk, 1>);
    case 2:
      return sizeof(ChunkTiles<kChunk, 2>);
    default:
      return sizeof(ChunkTiles<kChunk, 4>);
  }
}

}  // namespace

void delta_chunked(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan) {
  switch (chunk_size(plan.chunk)) {
    case 16:
      return run_chunks_of<16>(context, op, plan);
    case 32:
      return run_chunks_of<32>(context, op, plan);
    default:
      return run_chunks_of<64>(context, op, plan);
  }
}

uint64_t delta_scratch_bytes(const ops::DeltaMixer& op, const DeltaPlan& plan) {
  if (plan.chunk == 0) return 0;
  const int32_t chunk = chunk_size(plan.chunk);
  const uint64_t bytes = chunk == 16   ? tile_bytes<16>(op)
                         : chunk == 32 ? tile_bytes<32>(op)
                                       : tile_bytes<64>(op);
  return uint64_t(chunk_bound(op.tokens, {chunk, plan.min_rows, true})) * uint64_t(op.k_heads) * bytes;
}

}  // namespace dw::gpu::hopper
