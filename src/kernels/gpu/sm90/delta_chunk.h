// What the two kernels of the chunked delta mixer hand over: the tiles of a chunk in half precision, laid out
// as the second kernel wants them in shared memory.
#pragma once

#include "kernels/gpu/delta.h"
#include "kernels/gpu/delta_step.h"

namespace dw::gpu::hopper {

inline constexpr int kHeadDim = 128, kSplits = 4, kSplitColumns = kHeadDim / kSplits;

// Tiles are rows of kPieces 16-byte pieces; piece p of row r lies at piece swizzled(r, p), so that eight rows
// of a column of pieces lie in different banks.
template <int kPieces>
DW_DEVICE int swizzled(int row, int piece) {
  if (kPieces >= 8) return row * kPieces + (piece ^ (row & 7));
  if (kPieces == 4) return row * kPieces + (piece ^ ((row >> 1) & 3));
  return row * kPieces + (piece ^ ((row >> 2) & 1));
}

// Where piece p of row r of k or q lies for asynchronous products, which want columns of 64: [2][64] rows of
// 128 bytes.
DW_DEVICE int key_piece(int row, int piece) {
  return piece / 8 * (64 * 8) + swizzled<8>(row, piece % 8);
}

// Of a V head. Vd = T (V - e^G K S), O = e^G Q S / sqrt(d) + P Vd.
template <int kChunk>
struct HeadTiles {
  uint4 t[kChunk * kChunk / 8];  // (I + tril(beta K K^T o D))^-1 beta
  uint4 p[kChunk * kChunk / 8];  // tril(Q K^T o D) / sqrt(d)
  float from_start[kChunk];      // e^G
  float to_end[kChunk];          // e^(G_C - G)
  uint4 v[kSplits][kChunk * kSplitColumns / 8];
};
// Of a K head and the V heads that read it.
template <int kChunk, int kRatio>
struct ChunkTiles {
  uint4 k[kChunk * kHeadDim / 8], q[kChunk * kHeadDim / 8];
  HeadTiles<kChunk> heads[kRatio];
};

template <int kChunk, int kRatio>
void prepare_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from, uint32_t chunks,
                    ChunkTiles<kChunk, kRatio>* tiles);
template <int kChunk, int kRatio>
void scan_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from,
                 const ChunkTiles<kChunk, kRatio>* tiles);

// Chunks of 64, the k and q of their tiles laid out by key_piece().
template <int kRatio>
void prepare_tiles(Context& context, const ops::DeltaMixer& op, int32_t chunked_from, uint32_t chunks,
                   ChunkTiles<64, kRatio>* tiles);
template <int kRatio>
void walk_chunks(Context& context, const ops::DeltaMixer& op, int32_t chunked_from,
                 const ChunkTiles<64, kRatio>* tiles);

}  // namespace dw::gpu::hopper
