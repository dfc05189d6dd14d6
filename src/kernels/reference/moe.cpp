#include <algorithm>
#include <numeric>

#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {
namespace {

struct Choice {
  int64_t expert = 0;
  double weight = 0;
};

// The top_k experts of one token. Ranked by the fp32 router value: the softmax keeps its order, but could
// make ties of small ones.
std::vector<Choice> route(const ops::Moe& op, const float* x) {
  const std::vector<float> scores = multiply(op.router, x);
  const double largest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (float score : scores) total += std::exp(score - largest);

  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  std::vector<Choice> chosen;
  double sum = 0;
  for (int64_t i = 0; i < op.top_k; ++i) {
    const int64_t expert = order[size_t(i)];
    chosen.push_back({expert, std::exp(scores[size_t(expert)] - largest) / total});
    sum += chosen.back().weight;
  }
  if (op.normalise) {
    for (Choice& choice : chosen) choice.weight /= std::max(sum, 6.1e-5);
  }
  return chosen;
}

// y += weight * down(silu(gate x) * up x)
void add_expert(const std::vector<float>& gate, const std::vector<float>& up, const ops::Matrix& down,
                double weight, std::vector<double>& y) {
  std::vector<float> inner(gate.size());
  for (size_t i = 0; i < inner.size(); ++i) inner[i] = float(silu(gate[i]) * up[i]);
  const std::vector<float> out = multiply(down, inner.data());
  for (size_t i = 0; i < y.size(); ++i) y[i] += weight * out[i];
}

// The first or second half of a merged [2 width, hidden] matrix.
ops::Matrix half_of(const ops::Matrix& merged, int64_t half) {
  ops::Matrix result = merged;
  result.rows = merged.rows / 2;
  result.data = merged.data + uint64_t(half) * result.matrix_bytes();
  return result;
}

}  // namespace

void moe(const ops::Moe& op) {
  DW_CHECK(op.top_k >= 1 && op.top_k <= op.expert_count, "more experts asked for than there are");
  DW_CHECK(op.router.rows == op.expert_count, "the router does not fit the expert count");
  const int64_t hidden = op.x.columns;
  for (int64_t t = 0; t < op.x.tokens; ++t) {
    const float* x = op.x.values + t * hidden;
    std::vector<double> y(size_t(hidden), 0.0);
    for (const Choice& choice : route(op, x)) {
      ops::Matrix gate, up;
      if (op.gate_up) {
        gate = half_of(op.gate_up.expert(choice.expert), 0);
        up = half_of(op.gate_up.expert(choice.expert), 1);
      } else {
        gate = op.gate.expert(choice.expert);
        up = op.up.expert(choice.expert);
      }
      add_expert(multiply(gate, x), multiply(up, x), op.down.expert(choice.expert), choice.weight, y);
    }
    if (op.shared_gate) {
      const double weight = op.shared_router ? sigmoid(dot(op.shared_router, x, hidden)) : 1.0;
      add_expert(multiply(op.shared_gate, x), multiply(op.shared_up, x), op.shared_down, weight, y);
    }
    for (int64_t i = 0; i < hidden; ++i)
      op.out[t * hidden + i] = float(op.out[t * hidden + i] + y[size_t(i)]);
  }
}

}  // namespace dw::reference
