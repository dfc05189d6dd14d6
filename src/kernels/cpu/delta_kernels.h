// The Gated DeltaNet mixer of some V heads of one K head over one span: convolution, l2 norms, gates, the
// delta rule token by token or in chunks, gated norm.
//
// Chunks (Gated DeltaNet, arXiv 2412.06464, sections 3.2-3.3), with G the running sum of g in the chunk,
// D_ij = e^{G_i - G_j} for i >= j:
//   (I + L) Vd = beta (V - e^G (K S)),  L_ij = beta_i D_ij k_i.k_j for i > j
//   O = e^G (Q S) + (Q K^T o D) Vd;  S <- e^{G_C} S + K^T (e^{G_C - G} Vd)
// The triangular system is solved for Vd directly: fewer operations than its inverse, and no inverse to
// overflow. Only differences of G are ever exponentiated.
#pragma once

#include "kernels/cpu/mixer_kernels.h"
#include "kernels/cpu/small_gemm.h"

namespace dw::cpu {

// Scratch of a task; `block` tokens are convolved at once, `padded` = block rounded up to kChunkMultiple.
struct DeltaScratch {
  float* weights;    // [taps, 2 k_dim + v_count v_dim]: q | k | v of each head
  float* raw;        // [taps - 1 + block, 2 k_dim + v_count v_dim]: raw channels, in that order
  float* q;          // [padded, k_dim]
  float* k;          // [padded, k_dim]
  float* k_columns;  // [k_dim, padded]: k transposed
  float* kk;         // [padded, padded]: k_i . k_j
  float* qk;         // [padded, padded]: q_i . k_j
  float* lower;      // [padded, padded]: -L
  float* p;          // [padded, padded]: Q K^T o D
  float* v;          // [v_count, v_dim / 32, padded, 32]: v, then Vd
  float* o;          // [v_dim / 32, padded, 32]
  float* state;      // [v_count, v_dim / 32, k_dim, 32]
  float* row;        // [2, v_dim]
  float* gates;      // [8, padded]
};

DW_INLINE int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Lays the arrays out from base (which may be nullptr, to count floats); returns one past the end.
DW_INLINE int64_t lay_out(DeltaScratch& s, float* base, int64_t k_dim, int64_t v_dim, int64_t taps,
                          int64_t block, int64_t v_count) {
  const int64_t padded = round_up(block, kChunkMultiple);
  int64_t used = 0;
  const auto take = [&](float*& array, int64_t count) __attribute__((always_inline)) {
    array = base == nullptr ? nullptr : base + used;
    used += round_up(count, 16);
  };
  take(s.weights, taps * (2 * k_dim + v_count * v_dim));
  take(s.raw, (taps - 1 + padded) * (2 * k_dim + v_count * v_dim));
  take(s.q, padded * k_dim);
  take(s.k, padded * k_dim);
  take(s.k_columns, padded * k_dim);
  take(s.kk, padded * padded);
  take(s.qk, padded * padded);
  take(s.lower, padded * padded);
  take(s.p, padded * padded);
  take(s.v, v_count * padded * v_dim);
  take(s.o, padded * v_dim);
  take(s.state, v_count * k_dim * v_dim);
  take(s.row, 2 * v_dim);
  take(s.gates, 8 * padded);
  return used;
}

// Row t of the span's raw channels; t < 0: rows before the span, from the state.
DW_INLINE const float* raw_row(const DeltaTask& task, int64_t t) {
  if (t >= 0) return task.span_qkv + t * task.channels;
  return task.conv_state + (task.op->conv_taps - 1 + t) * task.channels;
}

// out[tap][channel] = weight[channel][tap]
DW_INLINE void transpose_taps(const float* weight, int64_t taps, int64_t count, float* out, int64_t stride) {
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t c = 0; c < count; ++c) out[tap * stride + c] = weight[c * taps + tap];
  }
}

// Copies the raw channels of the task's heads for tokens [t - (taps - 1), t + n) next to one another. Rows of
// the batch lie a power of two of bytes apart and are met for the first time: every one misses the caches and
// the address translation, so many must be asked for at once, with nothing else in between.
DW_INLINE void gather_raw(const DeltaTask& task, const DeltaScratch& s, int64_t t, int64_t n,
                          const int64_t channels[3], const int64_t counts[3]) {
  float* out = s.raw;
  for (int64_t i = t - (task.op->conv_taps - 1); i < t + n; ++i) {
    const float* row = raw_row(task, i);
    for (int part = 0; part < 3; ++part) {
      __builtin_memcpy(out, row + channels[part], size_t(counts[part]) * sizeof(float));
      out += counts[part];
    }
  }
}

// out = silu(conv) of `count` channels of one token; rows: its taps rows, oldest first, and weights: [taps],
// each `stride` floats apart. Every kPanel channels go `out_stride` floats further.
template <class V>
DW_INLINE void convolve(const float* rows, const float* weights, int64_t taps, int64_t count, int64_t stride,
                        float* out, int64_t out_stride) {
  using Reg = typename V::Reg;
  for (int64_t panel = 0; panel < count; panel += kPanel, out += out_stride) {
    for (int64_t c = panel; c < panel + kPanel; c += V::kWidth) {
      Reg sum = V::mul(V::load(weights + c), V::load(rows + c));
      for (int64_t at = c + stride; at < taps * stride; at += stride) {
        sum = V::fma(V::load(weights + at), V::load(rows + at), sum);
      }
      V::store(out + c - panel, Math<V>::silu(sum));
    }
  }
}

template <class V>
DW_INLINE void scale_row(float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; i += V::kWidth) V::store(x + i, V::mul(V::load(x + i), V::set(factor)));
}

template <class V>
DW_INLINE void l2_normalise(float* x, int64_t count, float factor) {
  scale_row<V>(x, count, factor / square_root(sum_of_products<V>(x, x, count) + 1e-6f));
}

// beta = sigmoid(b), g = a * softplus(alpha + dt_bias) of V head `head` (of the K head), tokens [t, t + n).
DW_INLINE void gates(const DeltaTask& task, int64_t head, int64_t t, int64_t n, float* beta, double* g) {
  const ops::DeltaMixer& op = *task.op;
  const int64_t ratio = op.v_heads / op.k_heads, v_head = task.k_head * ratio + head;
  const float* ba = op.ba + (task.first_row + t) * 2 * op.v_heads + task.k_head * 2 * ratio;
  for (int64_t i = 0; i < n; ++i, ba += 2 * op.v_heads) {
    beta[i] = 1.0f / (1.0f + __builtin_expf(-ba[head]));
    const float x = ba[ratio + head] + op.dt_bias[v_head];
    // Past 20, log(1 + e^x) is x to the last bit, and e^x would overflow.
    g[i] = double(op.a[v_head]) * (x > 20.0f ? double(x) : __builtin_log1p(__builtin_exp(double(x))));
  }
}

// y = rmsnorm(o) * norm * silu(z), quantised.
template <class V>
DW_INLINE void gated_norm(const DeltaTask& task, int64_t v_head, int64_t t, const float* o) {
  using Reg = typename V::Reg;
  const ops::DeltaMixer& op = *task.op;
  const int64_t v_dim = op.v_dim, row = task.first_row + t, width = op.v_heads * v_dim;
  const float mean = sum_of_products<V>(o, o, v_dim) / float(v_dim);
  const Reg scale = V::set(1.0f / square_root(mean + op.eps));
  const float* z = op.z + row * width + v_head * v_dim;
  const int64_t at = row * width + v_head * v_dim;
  const RowOut out = row_out(op.out, at);
  for (int64_t i = 0; i < v_dim; i += V::kWidth) {
    const Reg normed = V::mul(V::mul(V::load(o + i), scale), V::load(op.norm + i));
    V::store(out.values + i, V::mul(normed, Math<V>::silu(V::load(z + i))));
  }
  finish_row<V>(out, v_dim);
}

// One token of one head. S is read once for both products: with the new S, o = S^T q
// = e^g S^T q + (k . q) d; then it is updated while it is still in the cache.
template <class V, int kVectors>
DW_INLINE void delta_step_columns(float* s, int64_t k_dim, int64_t v_dim, const float* q, const float* k,
                                  float kq, const float* v, float beta, float decay, const float* ahead,
                                  float* o) {
  using Reg = typename V::Reg;
  const Reg fade = V::set(decay);
  Reg sk[kVectors], sq[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) sk[j] = sq[j] = V::zero();
  for (int64_t i = 0; i < k_dim; ++i) {
    const Reg ki = V::set(k[i]), qi = V::set(q[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const Reg x = V::load(s + i * v_dim + j * V::kWidth);
      sk[j] = V::fma(ki, x, sk[j]);
      sq[j] = V::fma(qi, x, sq[j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    const Reg d = V::mul(V::set(beta), V::sub(V::load(v + j * V::kWidth), V::mul(fade, sk[j])));
    V::store(o + j * V::kWidth, V::fma(V::set(kq), d, V::mul(fade, sq[j])));
    sk[j] = d;
  }
  for (int64_t i = 0; i < k_dim; ++i) {
    const Reg ki = V::set(k[i]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      float* x = s + i * v_dim + j * V::kWidth;
      V::store(x, V::fma(ki, sk[j], V::mul(fade, V::load(x))));
      if (j * V::kWidth % 16 == 0) __builtin_prefetch(ahead + i * v_dim + j * V::kWidth, 1, 2);
    }
  }
}

// ahead: the state that will be read next (any readable address when there is none).
template <class V>
inline void delta_step(float* state, int64_t k_dim, int64_t v_dim, const float* q, const float* k,
                       const float* v, float beta, float decay, const float* ahead, float* o) {
  constexpr int kVectors = V::kStateVectors;
  const float kq = sum_of_products<V>(k, q, k_dim);
  int64_t column = 0;
  for (; column + kVectors * V::kWidth <= v_dim; column += kVectors * V::kWidth) {
    delta_step_columns<V, kVectors>(state + column, k_dim, v_dim, q, k, kq, v + column, beta, decay,
                                    ahead + column, o + column);
  }
  for (; column < v_dim; column += 2 * V::kWidth) {
    delta_step_columns<V, 2>(state + column, k_dim, v_dim, q, k, kq, v + column, beta, decay, ahead + column,
                             o + column);
  }
}

// Row t of a matrix of panels -> contiguous.
template <class V>
DW_INLINE void gather_panels(const float* panels, int64_t padded, int64_t t, int64_t v_dim, float* out) {
  for (int64_t i = 0; i < v_dim; i += V::kWidth) {
    V::store(out + i, V::load(panels + (i / kPanel * padded + t) * kPanel + i % kPanel));
  }
}

template <class V>
inline void recurrent_block(const DeltaTask& task, const DeltaScratch& s, int64_t head, int64_t t, int64_t n,
                            int64_t padded) {
  const ops::DeltaMixer& op = *task.op;
  const int64_t v_head = task.k_head * (op.v_heads / op.k_heads) + head;
  float* state = task.state + v_head * op.k_dim * op.v_dim;
  const float* ahead = head + 1 < task.v_end && n == 1 ? state + op.k_dim * op.v_dim : state;
  float beta[kRecurrentBlock];
  double g[kRecurrentBlock];
  gates(task, head, t, n, beta, g);
  for (int64_t i = 0; i < n; ++i) {
    gather_panels<V>(s.v + (head - task.v_begin) * padded * op.v_dim, padded, i, op.v_dim, s.row);
    delta_step<V>(state, op.k_dim, op.v_dim, s.q + i * op.k_dim, s.k + i * op.k_dim, s.row, beta[i],
                  float(__builtin_exp(g[i])), ahead, s.row + op.v_dim);
    gated_norm<V>(task, v_head, t + i, s.row + op.v_dim);
  }
}

// Per-token factors of a chunk of n tokens, zero past n.
struct ChunkGates {
  float* beta;
  float* high;  // G = high + low
  float* low;
  float* decay;       // e^G
  float* beta_decay;  // -beta e^G
  float* rest;        // e^{G_C - G}
  float total;        // e^{G_C}
};

template <class V>
DW_INLINE ChunkGates chunk_gates(const DeltaTask& task, const DeltaScratch& s, int64_t head, int64_t t,
                                 int64_t n, int64_t padded) {
  ChunkGates c{s.gates,
               s.gates + padded,
               s.gates + 2 * padded,
               s.gates + 3 * padded,
               s.gates + 4 * padded,
               s.gates + 5 * padded,
               0};
  double* g = reinterpret_cast<double*>(s.gates + 6 * padded);
  gates(task, head, t, n, c.beta, g);
  double sum = 0;
  for (int64_t i = 0; i < padded; ++i) {
    if (i < n) sum += g[i];
    if (i >= n) c.beta[i] = 0;
    c.high[i] = float(sum);
    c.low[i] = float(sum - double(c.high[i]));
  }
  const float last_high = c.high[n - 1], last_low = c.low[n - 1];
  for (int64_t i = 0; i < padded; i += V::kWidth) {
    const auto high = V::load(c.high + i), low = V::load(c.low + i);
    const auto decay = Math<V>::exp(V::add(high, low));
    V::store(c.decay + i, decay);
    V::store(c.beta_decay + i, V::mul(V::sub(V::zero(), decay), V::load(c.beta + i)));
    V::store(c.rest + i,
             Math<V>::exp(V::add(V::sub(V::set(last_high), high), V::sub(V::set(last_low), low))));
  }
  c.total = c.decay[n - 1];
  return c;
}

// lower = -beta_i D_ij kk_ij below the diagonal, p = D_ij qk_ij up to it; zero elsewhere.
template <class V>
DW_INLINE void decay_matrices(const DeltaScratch& s, const ChunkGates& c, int64_t padded) {
  for (int64_t i = 0; i < padded; ++i) {
    float* lower = s.lower + i * padded;
    float* p = s.p + i * padded;
    const auto high = V::set(c.high[i]), low = V::set(c.low[i]), minus_beta = V::set(-c.beta[i]);
    int64_t j = 0;
    for (; j <= i; j += V::kWidth) {
      const auto gap =
          V::add(V::sub(high, V::load(c.high + j)), V::sub(low, V::load(c.low + j)));  // 0 or less up to i
      const auto d = Math<V>::exp(V::min(V::zero(), gap));
      V::store(lower + j, V::mul(V::mul(minus_beta, d), V::load(s.kk + i * padded + j)));
      V::store(p + j, V::mul(d, V::load(s.qk + i * padded + j)));
    }
    lower[i] = 0;
    for (int64_t k = i + 1; k < round_up(i + 1, kChunkMultiple); ++k) lower[k] = p[k] = 0;
  }
}

// d <- (I + L)^-1 d on one panel, with lower = -L.
template <class V>
DW_INLINE void solve_panel(const float* lower, int64_t padded, float* d) {
  using Reg = typename V::Reg;
  constexpr int kRows = V::kSolveRows;
  for (int64_t row = 0; row < padded; row += kRows) {
    small_gemm<V>(
        row, row + kRows, kPanel, row, {lower, padded, 1},
        {d, kPanel}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
          float* x = d + m * kPanel + column;
          V::store(x, V::add(V::load(x), sum));
        });
    for (int64_t column = 0; column < kPanel; column += V::kWidth) {
      Reg x[kRows];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        x[i] = V::load(d + (row + i) * kPanel + column);
#pragma GCC unroll 16
        for (int j = 0; j < i; ++j) x[i] = V::fma(V::set(lower[(row + i) * padded + row + j]), x[j], x[i]);
        V::store(d + (row + i) * kPanel + column, x[i]);
      }
    }
  }
}

template <class V>
inline void chunk_panel(const DeltaScratch& s, const ChunkGates& c, int64_t k_dim, int64_t padded,
                        float* state, float* v, float* o) {
  using Reg = typename V::Reg;
  small_gemm<V>(
      0, padded, kPanel, k_dim, {s.k, k_dim, 1},
      {state, kPanel}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
        float* x = v + m * kPanel + column;
        V::store(x, V::fma(V::set(c.beta_decay[m]), sum, V::mul(V::set(c.beta[m]), V::load(x))));
      });
  small_gemm<V>(
      0, padded, kPanel, k_dim, {s.q, k_dim, 1},
      {state, kPanel}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
        V::store(o + m * kPanel + column, V::mul(V::set(c.decay[m]), sum));
      });
  solve_panel<V>(s.lower, padded, v);
  for (int64_t row = 0; row < padded; row += V::kTileRows) {
    small_gemm<V>(
        row, row + V::kTileRows, kPanel, row + V::kTileRows, {s.p, padded, 1},
        {v, kPanel}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
          float* x = o + m * kPanel + column;
          V::store(x, V::add(V::load(x), sum));
        });
  }
  for (int64_t i = 0; i < padded; ++i) scale_row<V>(v + i * kPanel, kPanel, c.rest[i]);
  small_gemm<V>(
      0, k_dim, kPanel, padded, {s.k, 1, k_dim},
      {v, kPanel}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
        float* x = state + m * kPanel + column;
        V::store(x, V::fma(V::set(c.total), V::load(x), sum));
      });
}

// Asks for the rows of z and of the output that gated_norm will touch, while there is other work to do.
DW_INLINE void prefetch_gate_rows(const DeltaTask& task, int64_t v_head, int64_t t, int64_t n) {
  const ops::DeltaMixer& op = *task.op;
  const int64_t width = op.v_heads * op.v_dim;
  int64_t at = (task.first_row + t) * width + v_head * op.v_dim;
  for (int64_t i = 0; i < n; ++i, at += width) {
    for (int64_t c = 0; c < op.v_dim; c += 16) {
      __builtin_prefetch(op.z + at + c, 0, 2);
      __builtin_prefetch(op.out.values + at + c, 1, 2);
    }
  }
}

template <class V>
inline void chunk_block(const DeltaTask& task, const DeltaScratch& s, int64_t head, int64_t t, int64_t n,
                        int64_t padded) {
  const ops::DeltaMixer& op = *task.op;
  const int64_t v_head = task.k_head * (op.v_heads / op.k_heads) + head;
  prefetch_gate_rows(task, v_head, t, n);
  const ChunkGates c = chunk_gates<V>(task, s, head, t, n, padded);
  decay_matrices<V>(s, c, padded);
  float* state = s.state + (head - task.v_begin) * op.k_dim * op.v_dim;
  for (int64_t panel = 0; panel < op.v_dim / kPanel; ++panel) {
    chunk_panel<V>(s, c, op.k_dim, padded, state + panel * op.k_dim * kPanel,
                   s.v + ((head - task.v_begin) * op.v_dim + panel * kPanel) * padded,
                   s.o + panel * padded * kPanel);
  }
  for (int64_t i = 0; i < n; ++i) {
    gather_panels<V>(s.o, padded, i, op.v_dim, s.row);
    gated_norm<V>(task, v_head, t + i, s.row);
  }
}

// kk and qk of a chunk, up to the diagonal (rounded up to whole vectors).
template <class V>
inline void chunk_products(const DeltaScratch& s, int64_t k_dim, int64_t padded) {
  using Reg = typename V::Reg;
  for (int64_t i = 0; i < padded; ++i) {
    for (int64_t c = 0; c < k_dim; ++c) s.k_columns[c * padded + i] = s.k[i * k_dim + c];
  }
  for (int64_t row = 0; row < padded; row += kChunkMultiple) {
    const int64_t end = row + kChunkMultiple;
    for (int which = 0; which < 2; ++which) {
      float* out = which == 0 ? s.kk : s.qk;
      small_gemm<V>(
          row, end, end, k_dim, {which == 0 ? s.k : s.q, k_dim, 1},
          {s.k_columns, padded}, [&](int64_t m, int64_t column, Reg sum) __attribute__((always_inline)) {
            V::store(out + m * padded + column, sum);
          });
    }
  }
}

// The chunked form's copy of a head's state in panels, and back.
template <class V>
DW_INLINE void copy_state(float* rows, float* panels, int64_t k_dim, int64_t v_dim, bool to_panels) {
  for (int64_t i = 0; i < k_dim; ++i) {
    for (int64_t c = 0; c < v_dim; c += V::kWidth) {
      float* row = rows + i * v_dim + c;
      float* panel = panels + (c / kPanel * k_dim + i) * kPanel + c % kPanel;
      if (to_panels) {
        V::store(panel, V::load(row));
      } else {
        V::store(row, V::load(panel));
      }
    }
  }
}

// The state's rows after the span: the last taps - 1 of (old rows, span). Row r comes from row r + n of
// that list, so going up never reads what was written.
DW_INLINE void shift_conv_rows(const DeltaTask& task, int64_t channel, int64_t count) {
  const int64_t kept = task.op->conv_taps - 1;
  for (int64_t r = 0; r < kept; ++r) {
    const float* from = raw_row(task, task.row_count - kept + r) + channel;
    __builtin_memcpy(task.conv_state + r * task.channels + channel, from, size_t(count) * sizeof(float));
  }
}

template <class V>
void delta_task(const DeltaTask& task) {
  const ops::DeltaMixer& op = *task.op;
  const int64_t k_dim = op.k_dim, v_dim = op.v_dim, taps = op.conv_taps;
  const int64_t v_count = task.v_end - task.v_begin, ratio = op.v_heads / op.k_heads;
  // A few tokens are cheaper one by one; the choice depends on the span alone.
  const bool chunked = op.chunk > 0 && task.row_count >= op.min_chunked_tokens;
  const int64_t block = chunked ? op.chunk : kRecurrentBlock;
  DeltaScratch s;
  lay_out(s, task.scratch, k_dim, v_dim, taps, block, v_count);
  const int64_t stride = 2 * k_dim + v_count * v_dim;
  const int64_t q_channel = task.k_head * k_dim, k_channel = op.k_heads * k_dim + q_channel;
  const int64_t v_channel = 2 * op.k_heads * k_dim + (task.k_head * ratio + task.v_begin) * v_dim;
  const int64_t channels[3] = {q_channel, k_channel, v_channel}, counts[3] = {k_dim, k_dim, v_count * v_dim};
  transpose_taps(op.conv_weight + q_channel * taps, taps, k_dim, s.weights, stride);
  transpose_taps(op.conv_weight + k_channel * taps, taps, k_dim, s.weights + k_dim, stride);
  transpose_taps(op.conv_weight + v_channel * taps, taps, v_count * v_dim, s.weights + 2 * k_dim, stride);
  float* state = task.state + (task.k_head * ratio + task.v_begin) * k_dim * v_dim;
  const float q_scale = 1.0f / square_root(float(k_dim));
  for (int64_t h = 0; chunked && h < v_count; ++h) {
    copy_state<V>(state + h * k_dim * v_dim, s.state + h * k_dim * v_dim, k_dim, v_dim, true);
  }
  for (int64_t t = 0; t < task.row_count; t += block) {
    const int64_t n = task.row_count - t < block ? task.row_count - t : block;
    const int64_t padded = round_up(n, kChunkMultiple);
    gather_raw(task, s, t, n, channels, counts);
    for (int64_t i = 0; i < padded; ++i) {
      float* q = s.q + i * k_dim;
      float* k = s.k + i * k_dim;
      if (i < n) {
        const float* rows = s.raw + i * stride;
        convolve<V>(rows, s.weights, taps, k_dim, stride, q, kPanel);
        convolve<V>(rows + k_dim, s.weights + k_dim, taps, k_dim, stride, k, kPanel);
        convolve<V>(rows + 2 * k_dim, s.weights + 2 * k_dim, taps, v_count * v_dim, stride, s.v + i * kPanel,
                    padded * kPanel);
        l2_normalise<V>(q, k_dim, q_scale);
        l2_normalise<V>(k, k_dim, 1.0f);
      } else if (chunked) {
        __builtin_memset(q, 0, size_t(k_dim) * sizeof(float));
        __builtin_memset(k, 0, size_t(k_dim) * sizeof(float));
        for (int64_t panel = 0; panel < v_count * v_dim / kPanel; ++panel) {
          __builtin_memset(s.v + (panel * padded + i) * kPanel, 0, size_t(kPanel) * sizeof(float));
        }
      }
    }
    if (chunked) chunk_products<V>(s, k_dim, padded);
    for (int64_t h = 0; h < v_count; ++h) {
      if (chunked) {
        chunk_block<V>(task, s, task.v_begin + h, t, n, padded);
      } else {
        recurrent_block<V>(task, s, task.v_begin + h, t, n, padded);
      }
    }
  }
  for (int64_t h = 0; chunked && h < v_count; ++h) {
    copy_state<V>(state + h * k_dim * v_dim, s.state + h * k_dim * v_dim, k_dim, v_dim, false);
  }
  if (!task.updates_conv_state) return;
  shift_conv_rows(task, q_channel, k_dim);
  shift_conv_rows(task, k_channel, k_dim);
  shift_conv_rows(task, v_channel, v_count * v_dim);
}

}  // namespace dw::cpu
