// Gated softmax attention over the paged cache: the cache write, one tile of queries against a range of
// cached positions (online softmax; Dao et al., FlashAttention, arXiv 2205.14135), the merge of ranges.
//
// The rows of a tile are (token, head of the KV head) pairs, token by token. Scores are kept transposed,
// [position, row]: their product then reads cached rows as they lie (one broadcast per element) against the
// transposed queries, and softmax runs down the positions with one row a lane and no horizontal sum.
#pragma once

#include "kernels/cpu/mixer_kernels.h"
#include "kernels/cpu/small_gemm.h"

namespace dw::cpu {

struct AttentionScratch {
  float* q;          // [rows, key_dim]
  float* q_columns;  // [rows / 32, key_dim, 32]: q transposed, in panels
  float* k;          // [kKeyTile, key_dim]
  float* v;          // [value_dim / 32, kKeyTile, 32]
  float* scores;     // [kKeyTile, padded rows]
  float* out;        // [rows, value_dim]
  float* largest;    // [padded rows]
  float* sum;        // [padded rows]
  float* rescale;    // [padded rows]
  float* position;   // [padded rows]: of the query, as a float (exact up to 2^24)
};

DW_INLINE int64_t attention_round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Lays the arrays out from base (which may be nullptr, to count floats); returns one past the end.
DW_INLINE int64_t lay_out(AttentionScratch& s, float* base, const ops::Attention& op) {
  const int64_t group = op.heads / op.kv_heads;
  const int64_t rows = attention_round_up(group > kRowTileMax ? group : kRowTileMax, kPanel);
  int64_t used = 0;
  const auto take = [&](float*& array, int64_t count) __attribute__((always_inline)) {
    array = base == nullptr ? nullptr : base + used;
    used += attention_round_up(count, 16);
  };
  take(s.q, rows * op.key_dim);
  take(s.q_columns, rows * op.key_dim);
  take(s.k, kKeyTile * op.key_dim);
  take(s.v, kKeyTile * op.value_dim);
  take(s.scores, kKeyTile * rows);
  take(s.out, rows * op.value_dim);
  take(s.largest, rows);
  take(s.sum, rows);
  take(s.rescale, rows);
  take(s.position, rows);
  return used;
}

// y = rmsnorm(x) * weight * factor, then RoPE (NEOX pairs i, i + rope_dims / 2).
template <class V>
DW_INLINE void norm_and_rotate(const ops::Attention& op, const float* x, const float* weight, float factor,
                               const float* rope, float* y) {
  const int64_t dim = op.key_dim, half = op.rope_dims / 2;
  const float mean = sum_of_products<V>(x, x, dim) / float(dim);
  const auto scale = V::set(factor / square_root(mean + op.eps));
  for (int64_t i = 0; i < dim; i += V::kWidth) {
    V::store(y + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i)));
  }
  for (int64_t i = 0; i < half; ++i) {
    const float a = y[i], b = y[i + half], c = rope[i], s = rope[half + i];
    y[i] = a * c - b * s;
    y[i + half] = a * s + b * c;
  }
}

struct Q8Block {
  uint16_t scale;  // binary16
  int8_t quants[32];
};
static_assert(sizeof(Q8Block) == 34);

template <class V>
DW_INLINE void store_cache_row(ops::KvType type, const float* x, int64_t dim, std::byte* row) {
  if (type == ops::KvType::kF16) {
    for (int64_t i = 0; i < dim; i += V::kWidth) {
      V::store_half(reinterpret_cast<uint16_t*>(row) + i, V::load(x + i));
    }
    return;
  }
  if (type == ops::KvType::kF32) {
    for (int64_t i = 0; i < dim; i += V::kWidth) V::store(reinterpret_cast<float*>(row) + i, V::load(x + i));
    return;
  }
  Q8Block* block = reinterpret_cast<Q8Block*>(row);
  for (int64_t i = 0; i < dim; i += 32, ++block) {
    auto largest = V::zero();
    for (int64_t j = 0; j < 32; j += V::kWidth) largest = V::max(V::abs(V::load(x + i + j)), largest);
    const float scale = V::reduce_max(largest) / 127.0f;
    block->scale = V::to_half(scale);
    const auto divisor = V::set(scale > 0 ? scale : 1.0f), limit = V::set(127.0f);
    for (int64_t j = 0; j < 32; j += V::kWidth) {
      const auto ratio = V::div(scale > 0 ? V::load(x + i + j) : V::zero(), divisor);
      V::store_int8(block->quants + j, V::round(V::max(V::min(ratio, limit), V::sub(V::zero(), limit))));
    }
  }
}

// 32 elements go to out, the next 32 to out + block_stride, and so on.
template <class V>
DW_INLINE void load_cache_row(ops::KvType type, const std::byte* row, int64_t dim, float* out,
                              int64_t block_stride) {
  if (type == ops::KvType::kF16) {
    const uint16_t* x = reinterpret_cast<const uint16_t*>(row);
    for (int64_t i = 0; i < dim; i += 32, out += block_stride) {
      for (int64_t j = 0; j < 32; j += V::kWidth) V::store(out + j, V::load_half(x + i + j));
    }
    return;
  }
  if (type == ops::KvType::kF32) {
    const float* x = reinterpret_cast<const float*>(row);
    for (int64_t i = 0; i < dim; i += 32, out += block_stride) {
      for (int64_t j = 0; j < 32; j += V::kWidth) V::store(out + j, V::load(x + i + j));
    }
    return;
  }
  const Q8Block* block = reinterpret_cast<const Q8Block*>(row);
  for (int64_t i = 0; i < dim; i += 32, ++block, out += block_stride) {
    const auto scale = V::set(V::from_half(block->scale));
    for (int64_t j = 0; j < 32; j += V::kWidth)
      V::store(out + j, V::mul(scale, V::load_int8(block->quants + j)));
  }
}

// Bytes of a cached row (ops::kv_row_bytes, which this file may not call: see simd.h).
DW_INLINE int64_t cache_row_bytes(ops::KvType type, int64_t dim) {
  return type == ops::KvType::kF16 ? 2 * dim : type == ops::KvType::kF32 ? 4 * dim : dim / 32 * 34;
}
DW_INLINE std::byte* cache_row(const ops::Attention& op, const ops::Span& span, std::byte* cache, int64_t dim,
                               int64_t position, int64_t kv_head) {
  const int64_t page = span.pages[position / op.page_tokens], within = position % op.page_tokens;
  return cache +
         ((page * op.kv_heads + kv_head) * op.page_tokens + within) * cache_row_bytes(op.kv_type, dim);
}

template <class V>
void attention_store(const ops::Attention& op, const ops::Span& span, const float* rope, int64_t row) {
  const int64_t position = span.position + row - span.first_row;
  float k[kMaxHeadDim];
  for (int64_t h = 0; h < op.kv_heads; ++h) {
    norm_and_rotate<V>(op, op.k + (row * op.kv_heads + h) * op.key_dim, op.k_norm, 1.0f,
                       rope + row * op.rope_dims, k);
    store_cache_row<V>(op.kv_type, k, op.key_dim, cache_row(op, span, op.k_cache, op.key_dim, position, h));
    store_cache_row<V>(op.kv_type, op.v + (row * op.kv_heads + h) * op.value_dim, op.value_dim,
                       cache_row(op, span, op.v_cache, op.value_dim, position, h));
  }
}

// out = o / sum * sigmoid(gate), quantised, of one token and head.
template <class V>
DW_INLINE void gate_and_store(const ops::Attention& op, int64_t row, int64_t head, const float* o,
                              float sum) {
  const float* gate = op.q_gate + ((row * op.heads + head) * 2 + 1) * op.key_dim;
  const RowOut out = row_out(op.out, (row * op.heads + head) * op.value_dim);
  const auto scale = V::set(1.0f / sum);
  for (int64_t i = 0; i < op.value_dim; i += V::kWidth) {
    V::store(out.values + i, V::mul(V::mul(V::load(o + i), scale), Math<V>::sigmoid(V::load(gate + i))));
  }
  finish_row<V>(out, op.value_dim);
}

// Where the rows of a tile of positions lie.
struct CacheTile {
  const std::byte* k[kKeyTile];
  const std::byte* v[kKeyTile];
  const std::byte* next_k[kKeyTile];  // rows of the tile after this one (of this one at the end)
};

DW_INLINE void find_rows(const AttentionTask& task, int64_t key, int64_t keys, int64_t key_end,
                         CacheTile& tile) {
  const ops::Attention& op = *task.op;
  for (int64_t j = 0; j < kKeyTile; ++j) {
    const int64_t position = key + (j < keys ? j : keys - 1);  // whole register tiles may read a row again
    tile.k[j] = cache_row(op, *task.span, op.k_cache, op.key_dim, position, task.kv_head);
    tile.v[j] = cache_row(op, *task.span, op.v_cache, op.value_dim, position, task.kv_head);
    const int64_t next = position + kKeyTile < key_end ? position + kKeyTile : position;
    tile.next_k[j] = cache_row(op, *task.span, op.k_cache, op.key_dim, next, task.kv_head);
  }
}

template <class V, bool kHalf>
DW_INLINE typename V::Reg load_element(const std::byte* row, int64_t i) {
  if constexpr (kHalf) return V::load_half(reinterpret_cast<const uint16_t*>(row) + i);
  return V::load(reinterpret_cast<const float*>(row) + i);
}

// scores[position, row] = k . q by dot products along the head dim, kWidth of them at once: for few rows.
template <class V, int kRows, bool kHalf>
DW_INLINE int64_t dot_rows(const AttentionScratch& s, const std::byte* const* k, const CacheTile& tile,
                           int64_t dim, int64_t keys, int64_t row, int64_t rows, int64_t padded) {
  using Reg = typename V::Reg;
  constexpr int kKeys = int(V::kWidth) / kRows;
  for (; row + kRows <= rows; row += kRows) {
    const float* q = s.q + row * dim;
    for (int64_t j = 0; j < keys; j += kKeys) {
      Reg sum[V::kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < V::kWidth; ++i) sum[i] = V::zero();
      for (int64_t c = 0; c < dim; c += V::kWidth) {
        Reg x[kKeys];
#pragma GCC unroll 16
        for (int a = 0; a < kKeys; ++a) {
          x[a] = load_element<V, kHalf>(k[j + a], c);
          if constexpr (kHalf) {  // what is read after these products, and in the next tile
            __builtin_prefetch(tile.v[j + a] + 2 * c);
            __builtin_prefetch(tile.next_k[j + a] + 2 * c, 0, 2);
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Reg y = V::load(q + r * dim + c);
#pragma GCC unroll 16
          for (int a = 0; a < kKeys; ++a) sum[a * kRows + r] = V::fma(x[a], y, sum[a * kRows + r]);
        }
      }
      float scores[V::kWidth];
      V::store(scores, V::sum_each(sum));
      for (int64_t a = 0; a < kKeys && j + a < keys; ++a) {
        __builtin_memcpy(s.scores + (j + a) * padded + row, scores + a * kRows, kRows * sizeof(float));
      }
    }
  }
  return row;
}

template <class V, bool kHalf>
DW_INLINE void scores_by_dots(const AttentionScratch& s, const std::byte* const* k, const CacheTile& tile,
                              int64_t dim, int64_t keys, int64_t rows, int64_t padded) {
  int64_t row = 0;
  if constexpr (V::kWidth >= 8) row = dot_rows<V, 8, kHalf>(s, k, tile, dim, keys, row, rows, padded);
  row = dot_rows<V, 4, kHalf>(s, k, tile, dim, keys, row, rows, padded);
  row = dot_rows<V, 2, kHalf>(s, k, tile, dim, keys, row, rows, padded);
  dot_rows<V, 1, kHalf>(s, k, tile, dim, keys, row, rows, padded);
}

// out <- out * rescale + scores^T v, with v in f16 where it lies in the cache: for few rows.
template <class V, int kRows>
DW_INLINE int64_t add_half_rows(const AttentionScratch& s, const std::byte* const* v, int64_t dim,
                                int64_t keys, int64_t row, int64_t rows, int64_t padded) {
  using Reg = typename V::Reg;
  for (; row + kRows <= rows; row += kRows) {
    for (int64_t column = 0; column < dim; column += 2 * V::kWidth) {
      Reg sum[kRows][2];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
      const float* p = s.scores + row;
      for (int64_t j = 0; j < keys; ++j, p += padded) {
        const uint16_t* from = reinterpret_cast<const uint16_t*>(v[j]) + column;
        const Reg x0 = V::load_half(from), x1 = V::load_half(from + V::kWidth);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Reg weight = V::set(p[r]);
          sum[r][0] = V::fma(weight, x0, sum[r][0]);
          sum[r][1] = V::fma(weight, x1, sum[r][1]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        float* out = s.out + (row + r) * dim + column;
        const Reg rescale = V::set(s.rescale[row + r]);
        V::store(out, V::fma(V::load(out), rescale, sum[r][0]));
        V::store(out + V::kWidth, V::fma(V::load(out + V::kWidth), rescale, sum[r][1]));
      }
    }
  }
  return row;
}

template <class V>
DW_INLINE void add_half_values(const AttentionScratch& s, const std::byte* const* v, int64_t dim,
                               int64_t keys, int64_t rows, int64_t padded) {
  int64_t row = 0;
  if constexpr (V::kTileRows >= 8) row = add_half_rows<V, 8>(s, v, dim, keys, row, rows, padded);
  row = add_half_rows<V, 4>(s, v, dim, keys, row, rows, padded);
  row = add_half_rows<V, 2>(s, v, dim, keys, row, rows, padded);
  add_half_rows<V, 1>(s, v, dim, keys, row, rows, padded);
}

template <class V>
DW_INLINE void scores_by_tiles(const AttentionScratch& s, int64_t dim, int64_t keys, int64_t padded) {
  using Reg = typename V::Reg;
  for (int64_t column = 0; column < padded; column += kPanel) {
    small_gemm<V>(
        0, keys, kPanel, dim, {s.k, dim, 1}, {s.q_columns + column * dim, kPanel},
        [&](int64_t j, int64_t m, Reg sum)
            __attribute__((always_inline)) { V::store(s.scores + j * padded + column + m, sum); });
  }
}

// Scores -> e^{score - largest}, with the running maximum and sum of each row; rescale = what the old sums
// shrink by. Positions after the query's own count for nothing.
template <class V>
DW_INLINE void online_softmax(const AttentionScratch& s, int64_t first_key, int64_t keys, int64_t padded,
                              bool masked) {
  using Reg = typename V::Reg;
  for (int64_t m = 0; m < padded; m += V::kWidth) {
    float* column = s.scores + m;
    const Reg old_largest = V::load(s.largest + m), position = V::load(s.position + m);
    Reg largest = old_largest;
    for (int64_t j = 0; j < keys; ++j) {
      Reg x = V::load(column + j * padded);
      if (masked) {
        x = V::select_less(position, V::set(float(first_key + j)), V::set(-__builtin_inff()), x);
        V::store(column + j * padded, x);
      }
      largest = V::max(largest, x);
    }
    Reg sum = V::zero();
    for (int64_t j = 0; j < keys; ++j) {
      const Reg p = Math<V>::exp(V::sub(V::load(column + j * padded), largest));
      V::store(column + j * padded, p);
      sum = V::add(sum, p);
    }
    const Reg rescale = Math<V>::exp(V::sub(old_largest, largest));
    V::store(s.rescale + m, rescale);
    V::store(s.largest + m, largest);
    V::store(s.sum + m, V::fma(V::load(s.sum + m), rescale, sum));
  }
}

template <class V>
DW_INLINE void add_values(const AttentionScratch& s, int64_t value_dim, int64_t keys, int64_t rows,
                          int64_t padded) {
  using Reg = typename V::Reg;
  for (int64_t column = 0; column < value_dim; column += kPanel) {
    small_gemm<V>(
        0, rows, kPanel, keys, {s.scores, 1, padded},
        {s.v + column * kKeyTile, kPanel}, [&](int64_t m, int64_t n, Reg sum) __attribute__((always_inline)) {
          float* x = s.out + m * value_dim + column + n;
          V::store(x, V::fma(V::load(x), V::set(s.rescale[m]), sum));
        });
  }
}

// Queries of the tile: normed, rotated, scaled; and what the online softmax starts from.
template <class V>
DW_INLINE void load_queries(const AttentionTask& task, const AttentionScratch& s, int64_t rows,
                            int64_t padded, bool transposed) {
  const ops::Attention& op = *task.op;
  const int64_t group = op.heads / op.kv_heads, dim = op.key_dim;
  for (int64_t m = 0; m < rows; ++m) {
    const int64_t token = task.token_begin + m / group, head = task.kv_head * group + m % group;
    const int64_t row = task.span->first_row + token;
    norm_and_rotate<V>(op, op.q_gate + (row * op.heads + head) * 2 * dim, op.q_norm, op.scale,
                       task.rope + row * op.rope_dims, s.q + m * dim);
    s.position[m] = float(task.span->position + token);
  }
  for (int64_t m = 0; m < padded; ++m) {
    s.largest[m] = -1e30f;  // finite, so that a range without a visible position weighs e^-huge = 0
    s.sum[m] = 0;
    if (m >= rows) s.position[m] = s.position[rows - 1];
  }
  __builtin_memset(s.out, 0, size_t(rows * op.value_dim) * sizeof(float));
  if (!transposed) {
    for (int64_t j = 0; j < kKeyTile; ++j) {
      for (int64_t m = rows; m < padded; ++m) s.scores[j * padded + m] = 0;
    }
    return;
  }
  for (int64_t m = 0; m < padded; ++m) {
    float* column = s.q_columns + m / kPanel * kPanel * dim + m % kPanel;
    for (int64_t i = 0; i < dim; ++i) column[i * kPanel] = m < rows ? s.q[m * dim + i] : 0.0f;
  }
}

template <class V>
void attention_task(const AttentionTask& task) {
  const ops::Attention& op = *task.op;
  AttentionScratch s;
  lay_out(s, task.scratch, op);
  const int64_t group = op.heads / op.kv_heads, rows = (task.token_end - task.token_begin) * group;
  const bool by_dots = rows < 16;
  const int64_t padded = attention_round_up(rows, by_dots ? V::kWidth : kPanel);
  load_queries<V>(task, s, rows, padded, !by_dots);
  const int64_t first_position = task.span->position + task.token_begin;
  const int64_t last_position = task.span->position + task.token_end - 1;
  const int64_t key_end = task.key_end < last_position + 1 ? task.key_end : last_position + 1;
  CacheTile tile;
  for (int64_t key = task.key_begin; key < key_end; key += kKeyTile) {
    const int64_t keys = key_end - key < kKeyTile ? key_end - key : kKeyTile;
    find_rows(task, key, keys, key_end, tile);
    const bool masked = key + keys - 1 > first_position;
    if (by_dots && op.kv_type == ops::KvType::kF16) {
      // Few rows: the cache is read where it lies; unpacking it first would cost as much as the products.
      scores_by_dots<V, true>(s, tile.k, tile, op.key_dim, keys, rows, padded);
      online_softmax<V>(s, key, keys, padded, masked);
      add_half_values<V>(s, tile.v, op.value_dim, keys, rows, padded);
      continue;
    }
    const std::byte* k_rows[kKeyTile];
    for (int64_t j = 0; j < kKeyTile; ++j) {
      k_rows[j] = reinterpret_cast<const std::byte*>(s.k + (j < keys ? j : keys - 1) * op.key_dim);
    }
    for (int64_t j = 0; j < keys; ++j) {
      load_cache_row<V>(op.kv_type, tile.k[j], op.key_dim, s.k + j * op.key_dim, 32);
      load_cache_row<V>(op.kv_type, tile.v[j], op.value_dim, s.v + j * kPanel, kKeyTile * kPanel);
    }
    if (by_dots) {
      scores_by_dots<V, false>(s, k_rows, tile, op.key_dim, keys, rows, padded);
    } else {
      scores_by_tiles<V>(s, op.key_dim, keys, padded);
    }
    online_softmax<V>(s, key, keys, padded, masked);
    add_values<V>(s, op.value_dim, keys, rows, padded);
  }
  for (int64_t m = 0; m < rows; ++m) {
    const float* o = s.out + m * op.value_dim;
    if (task.partial == nullptr) {
      gate_and_store<V>(op, task.span->first_row + task.token_begin + m / group,
                        task.kv_head * group + m % group, o, s.sum[m]);
      continue;
    }
    float* partial = task.partial + m * (kPartialExtra + op.value_dim);
    partial[0] = s.largest[m];
    partial[1] = s.sum[m];
    __builtin_memcpy(partial + kPartialExtra, o, size_t(op.value_dim) * sizeof(float));
  }
}

template <class V>
void attention_merge(const MergeTask& task) {
  const ops::Attention& op = *task.op;
  float largest = -1e30f;
  for (int64_t p = 0; p < task.partition_count; ++p) {
    const float x = task.partials[p * task.partition_stride];
    largest = x > largest ? x : largest;
  }
  float o[kMaxHeadDim] = {};
  float sum = 0;
  for (int64_t p = 0; p < task.partition_count; ++p) {
    const float* partial = task.partials + p * task.partition_stride;
    const float factor = __builtin_expf(partial[0] - largest);
    sum += factor * partial[1];
    for (int64_t i = 0; i < op.value_dim; i += V::kWidth) {
      V::store(o + i, V::fma(V::set(factor), V::load(partial + kPartialExtra + i), V::load(o + i)));
    }
  }
  gate_and_store<V>(op, task.row, task.head, o, sum);
}

}  // namespace dw::cpu
