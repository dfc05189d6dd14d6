#include "model/work.h"

#include <algorithm>
#include <cmath>

namespace dw {
namespace {

struct Sum {
  PassWork work;
  int64_t tokens;

  void matrix(const ops::Matrix& m, double rows) {
    if (!m) return;
    work.weight_bytes += double(m.matrix_bytes());
    work.operations += 2.0 * double(m.rows) * double(m.columns) * rows;
  }
  void experts(const ops::Matrix& m, double distinct, double pairs) {
    if (!m) return;
    work.weight_bytes += double(m.matrix_bytes()) * distinct;
    work.operations += 2.0 * double(m.rows) * double(m.columns) * pairs;
  }
};

}  // namespace

PassWork pass_work(const HyperParameters& h, const Weights& weights, ops::KvType kv_type, int64_t tokens,
                   int64_t sequences, int64_t depth, int64_t logit_rows) {
  Sum sum{{}, tokens};
  const double t = double(tokens), share = double(h.top_k) / h.expert_count;
  const double distinct = h.expert_count * (1 - std::pow(1 - share, t));
  const double state =
      4.0 * double(h.v_heads) * h.k_dim * h.v_dim + 4.0 * double(h.conv_taps - 1) * double(h.channels());
  const double kv_row = 2.0 * h.kv_heads * double(ops::kv_row_bytes(kv_type, h.head_dim));
  const double rows_per_sequence = t / double(sequences);
  const double mean_depth = double(depth) + rows_per_sequence / 2;
  for (const LayerWeights& w : weights.layers) {
    for (const ops::Matrix* m : {&w.q_gate, &w.k, &w.v, &w.attn_output, &w.qkv, &w.z, &w.ssm_in, &w.ba,
                                 &w.delta_output, &w.router, &w.shared_gate, &w.shared_up, &w.shared_down})
      sum.matrix(*m, t);
    for (const ops::Matrix* m : {&w.gate, &w.up, &w.gate_up, &w.down}) sum.experts(*m, distinct, t * h.top_k);
    if (w.recurrent) {
      sum.work.state_bytes += 2 * state * double(sequences);
      sum.work.operations += 7.0 * h.v_heads * h.k_dim * double(h.v_dim) * t;
    } else {
      sum.work.kv_bytes += kv_row * (double(sequences) * (double(depth) + rows_per_sequence) + t);
      sum.work.operations += 4.0 * double(h.attention_width()) * mean_depth * t;
    }
  }
  if (logit_rows > 0) sum.matrix(weights.output, double(logit_rows));
  sum.work.weight_bytes += double(quant::row_bytes(weights.embedding.type, uint64_t(h.hidden))) * t;
  return sum.work;
}

}  // namespace dw
