#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/reference/reference.h"
#include "kernels/reference_support.h"

namespace dw {
namespace {

using test::f32_matrix;
using test::normals;
using test::OwnedActivations;

struct Case {
  int64_t experts, top_k, hidden, width, tokens;
  std::vector<float> x, router, gate, up, down, shared_gate, shared_up, shared_down, shared_router, start;
};

Case make_case(Random& random, int64_t experts, int64_t top_k, int64_t hidden, int64_t width,
               int64_t tokens) {
  Case c{experts, top_k, hidden, width, tokens, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  const float deviation = 1 / std::sqrt(float(hidden));
  c.x = normals(random, tokens * hidden);
  c.router = normals(random, experts * hidden, 2 * deviation);
  c.gate = normals(random, experts * width * hidden, deviation);
  c.up = normals(random, experts * width * hidden, deviation);
  c.down = normals(random, experts * width * hidden, deviation);
  c.shared_gate = normals(random, width * hidden, deviation);
  c.shared_up = normals(random, width * hidden, deviation);
  c.shared_down = normals(random, width * hidden, deviation);
  c.shared_router = normals(random, hidden, deviation);
  c.start = normals(random, tokens * hidden);
  return c;
}

enum Variant { kPlain = 0, kMerged = 1, kNoShared = 2, kNoSharedRouter = 4, kNotNormalised = 8 };

std::vector<float> run(const Case& c, int variant) {
  OwnedActivations x(c.tokens, c.hidden);
  x.values = c.x;
  x.view.values = x.values.data();
  std::vector<float> out = c.start, merged;
  ops::Moe op;
  op.expert_count = int32_t(c.experts);
  op.top_k = int32_t(c.top_k);
  op.normalise = !(variant & kNotNormalised);
  op.x = x.view;
  op.router = f32_matrix(c.router, c.experts, c.hidden);
  op.down = f32_matrix(c.down, c.hidden, c.width, c.experts);
  if (variant & kMerged) {
    const int64_t size = c.width * c.hidden;
    for (int64_t e = 0; e < c.experts; ++e) {
      merged.insert(merged.end(), &c.gate[e * size], &c.gate[e * size] + size);
      merged.insert(merged.end(), &c.up[e * size], &c.up[e * size] + size);
    }
    op.gate_up = f32_matrix(merged, 2 * c.width, c.hidden, c.experts);
  } else {
    op.gate = f32_matrix(c.gate, c.width, c.hidden, c.experts);
    op.up = f32_matrix(c.up, c.width, c.hidden, c.experts);
  }
  if (!(variant & kNoShared)) {
    op.shared_gate = f32_matrix(c.shared_gate, c.width, c.hidden);
    op.shared_up = f32_matrix(c.shared_up, c.width, c.hidden);
    op.shared_down = f32_matrix(c.shared_down, c.hidden, c.width);
    if (!(variant & kNoSharedRouter)) op.shared_router = c.shared_router.data();
  }
  op.out = out.data();
  reference::moe(op);
  return out;
}

// All experts are computed and weighed; those outside the top-k by nothing.
void add_dense(const Case& c, const double* x, const float* gate, const float* up, const float* down,
               double weight, double* y) {
  for (int64_t w = 0; w < c.width; ++w) {
    double g = 0, u = 0;
    for (int64_t i = 0; i < c.hidden; ++i) {
      g += x[i] * gate[w * c.hidden + i];
      u += x[i] * up[w * c.hidden + i];
    }
    const double inner = g / (1 + std::exp(-g)) * u;
    for (int64_t i = 0; i < c.hidden; ++i) y[i] += weight * inner * down[i * c.width + w];
  }
}

std::vector<double> closed_form(const Case& c, int variant) {
  std::vector<double> out(c.start.begin(), c.start.end());
  for (int64_t t = 0; t < c.tokens; ++t) {
    const std::vector<double> x(&c.x[t * c.hidden], &c.x[t * c.hidden] + c.hidden);
    std::vector<double> p(size_t(c.experts), 0.0);
    double total = 0;
    for (int64_t e = 0; e < c.experts; ++e) {
      for (int64_t i = 0; i < c.hidden; ++i) p[e] += x[i] * c.router[e * c.hidden + i];
      total += std::exp(p[e]);
    }
    for (double& value : p) value = std::exp(value) / total;
    std::vector<double> sorted = p;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double kept = 0;
    for (int64_t i = 0; i < c.top_k; ++i) kept += sorted[i];
    if (variant & kNotNormalised) kept = 1;
    const int64_t size = c.width * c.hidden;
    for (int64_t e = 0; e < c.experts; ++e) {
      const double weight = p[e] >= sorted[c.top_k - 1] ? p[e] / kept : 0;
      add_dense(c, x.data(), &c.gate[e * size], &c.up[e * size], &c.down[e * size], weight,
                &out[t * c.hidden]);
    }
    if (variant & kNoShared) continue;
    double score = 0;
    for (int64_t i = 0; i < c.hidden; ++i) score += x[i] * c.shared_router[i];
    add_dense(c, x.data(), c.shared_gate.data(), c.shared_up.data(), c.shared_down.data(),
              variant & kNoSharedRouter ? 1 : 1 / (1 + std::exp(-score)), &out[t * c.hidden]);
  }
  return out;
}

TEST(ReferenceMoe, MatchesTheClosedFormInEveryVariant) {
  for (int variant = 0; variant < 16; ++variant) {
    Random random(uint64_t(100 + variant));
    const int64_t experts = 2 + random.below(20), top_k = 1 + random.below(experts);
    const Case c = make_case(random, experts, top_k, 32 + random.below(32), 16 + random.below(32), 5);
    EXPECT_LE(test::nmse(run(c, variant), closed_form(c, variant)), 1e-12) << "variant " << variant;
  }
}

TEST(ReferenceMoe, ManyExperts) {
  Random random(41);
  const Case c = make_case(random, 512, 10, 32, 8, 20);
  EXPECT_LE(test::nmse(run(c, kPlain), closed_form(c, kPlain)), 1e-12);
}

TEST(ReferenceMoe, TiesGoToTheLowerIndex) {
  Random random(42);
  Case c = make_case(random, 6, 2, 32, 8, 1);
  std::fill(c.router.begin(), c.router.end(), 0.0f);
  Case first_two = c;
  first_two.experts = 2;
  first_two.router.resize(2 * 32);
  EXPECT_EQ(run(c, kPlain), run(first_two, kPlain));
}

TEST(ReferenceMoe, HugeRouterValuesStayFinite) {
  Random random(43);
  Case c = make_case(random, 8, 3, 32, 8, 4);
  for (float& w : c.router) w *= 1e4f;
  EXPECT_TRUE(test::all_finite(run(c, kPlain)));
}

}  // namespace
}  // namespace dw
