#include <algorithm>

#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {
namespace {

using Doubles = std::vector<double>;

// What the delta rule of one V head reads over the tokens of a span, and its result.
struct Head {
  int64_t tokens = 0, k_dim = 0, v_dim = 0;
  std::vector<float> q, k;  // [tokens, k_dim], normalised
  std::vector<float> v;     // [tokens, v_dim]
  Doubles g, beta;          // [tokens]
  float* state = nullptr;   // [k_dim, v_dim]
  std::vector<float> o;     // [tokens, v_dim]
};

// u = silu(causal_conv(qkv)) of a span's rows: [row_count, channels]. Leaves the newest raw rows in the
// state.
std::vector<float> convolve(const ops::DeltaMixer& op, const ops::Span& span) {
  const int64_t channels = op.channels(), taps = op.conv_taps, kept = taps - 1;
  float* state = op.conv_state + span.slot * kept * channels;
  std::vector<float> raw(state, state + kept * channels);  // [kept + row_count, channels]
  raw.insert(raw.end(), op.qkv + span.first_row * channels,
             op.qkv + (span.first_row + span.row_count) * channels);

  std::vector<float> u(size_t(span.row_count * channels));
  for (int64_t t = 0; t < span.row_count; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < taps; ++j) {
        sum += double(op.conv_weight[c * taps + j]) * double(raw[size_t((t + j) * channels + c)]);
      }
      u[size_t(t * channels + c)] = float(silu(sum));
    }
  }
  std::copy(raw.end() - kept * channels, raw.end(), state);
  return u;
}

// out = x / sqrt(sum x^2 + 1e-6)
void append_l2norm(const float* x, int64_t count, std::vector<float>& out) {
  const double factor = 1.0 / std::sqrt(dot(x, x, count) + 1e-6);
  for (int64_t i = 0; i < count; ++i) out.push_back(float(x[i] * factor));
}

// u: [row_count, channels]
Head gather_head(const ops::DeltaMixer& op, const ops::Span& span, const std::vector<float>& u, int64_t h) {
  const int64_t ratio = op.v_heads / op.k_heads, k_head = h / ratio;
  Head head;
  head.tokens = span.row_count;
  head.k_dim = op.k_dim;
  head.v_dim = op.v_dim;
  head.state = op.state + (int64_t(span.slot) * op.v_heads + h) * op.k_dim * op.v_dim;
  for (int64_t t = 0; t < span.row_count; ++t) {
    const float* row = u.data() + t * op.channels();
    append_l2norm(row + k_head * op.k_dim, op.k_dim, head.q);
    append_l2norm(row + (op.k_heads + k_head) * op.k_dim, op.k_dim, head.k);
    const float* v = row + 2 * op.k_heads * op.k_dim + h * op.v_dim;
    head.v.insert(head.v.end(), v, v + op.v_dim);
    const float* ba = op.ba + (span.first_row + t) * 2 * op.v_heads + k_head * 2 * ratio;
    head.beta.push_back(sigmoid(ba[h % ratio]));
    head.g.push_back(double(op.a[h]) * softplus(double(ba[ratio + h % ratio]) + double(op.dt_bias[h])));
  }
  head.o.resize(size_t(span.row_count * op.v_dim));
  return head;
}

void run_recurrent(Head& head) {
  const double scale = 1.0 / std::sqrt(double(head.k_dim));
  for (int64_t t = 0; t < head.tokens; ++t) {
    const float* q = head.q.data() + t * head.k_dim;
    const float* k = head.k.data() + t * head.k_dim;
    const double decay = std::exp(head.g[size_t(t)]);
    for (int64_t c = 0; c < head.v_dim; ++c) {
      double recalled = 0;  // (S^T k)[c]
      for (int64_t i = 0; i < head.k_dim; ++i) recalled += decay * head.state[i * head.v_dim + c] * k[i];
      const double d = head.beta[size_t(t)] * (head.v[size_t(t * head.v_dim + c)] - recalled);
      double sum = 0;
      for (int64_t i = 0; i < head.k_dim; ++i) {
        float& s = head.state[i * head.v_dim + c];
        s = float(decay * s + k[i] * d);
        sum += double(s) * q[i];
      }
      head.o[size_t(t * head.v_dim + c)] = float(sum * scale);
    }
  }
}

// The decay from token j to token i of a chunk, e^{G_i - G_j}; G is the running sum of g.
double decay_between(const Doubles& G, int64_t i, int64_t j) {
  return std::exp(G[size_t(i)] - G[size_t(j)]);
}

// T = (I - A)^-1 with A = -tril((beta K) K^T o D, -1), by forward substitution: [n, n].
Doubles invert(const Head& head, int64_t first, int64_t n, const Doubles& G) {
  Doubles T(size_t(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    T[size_t(i * n + i)] = 1;
    const float* ki = head.k.data() + (first + i) * head.k_dim;
    for (int64_t j = 0; j < i; ++j) {
      const float* kj = head.k.data() + (first + j) * head.k_dim;
      const double a = -head.beta[size_t(first + i)] * dot(ki, kj, head.k_dim) * decay_between(G, i, j);
      for (int64_t c = 0; c <= j; ++c) T[size_t(i * n + c)] += a * T[size_t(j * n + c)];
    }
  }
  return T;
}

// V' = U - W S with U = T (beta V), W = T (beta e^G K): [n, v_dim].
Doubles corrected_values(const Head& head, int64_t first, int64_t n, const Doubles& G) {
  const Doubles T = invert(head, first, n, G);
  Doubles rhs(size_t(n * head.v_dim)), result(size_t(n * head.v_dim), 0.0);
  for (int64_t t = 0; t < n; ++t) {
    const float* k = head.k.data() + (first + t) * head.k_dim;
    for (int64_t c = 0; c < head.v_dim; ++c) {
      double recalled = 0;
      for (int64_t i = 0; i < head.k_dim; ++i) recalled += double(k[i]) * head.state[i * head.v_dim + c];
      const double v = head.v[size_t((first + t) * head.v_dim + c)];
      rhs[size_t(t * head.v_dim + c)] =
          head.beta[size_t(first + t)] * (v - std::exp(G[size_t(t)]) * recalled);
    }
  }
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t j = 0; j <= t; ++j) {
      for (int64_t c = 0; c < head.v_dim; ++c) {
        result[size_t(t * head.v_dim + c)] += T[size_t(t * n + j)] * rhs[size_t(j * head.v_dim + c)];
      }
    }
  }
  return result;
}

// O = (Q e^G) S + (Q K^T o D) V', then S <- e^{G_C} S + (K e^{G_C - G})^T V'.
void run_chunk(Head& head, int64_t first, int64_t n) {
  const double scale = 1.0 / std::sqrt(double(head.k_dim));
  const int64_t v_dim = head.v_dim;
  Doubles G(size_t(n), 0.0);
  double total = 0;
  for (int64_t t = 0; t < n; ++t) G[size_t(t)] = total += head.g[size_t(first + t)];
  const Doubles values = corrected_values(head, first, n, G);

  Doubles o(size_t(v_dim), 0.0);
  for (int64_t t = 0; t < n; ++t) {
    const float* q = head.q.data() + (first + t) * head.k_dim;
    std::fill(o.begin(), o.end(), 0.0);
    for (int64_t i = 0; i < head.k_dim; ++i) {
      const double weight = q[i] * std::exp(G[size_t(t)]);
      for (int64_t c = 0; c < v_dim; ++c) o[size_t(c)] += weight * head.state[i * v_dim + c];
    }
    for (int64_t j = 0; j <= t; ++j) {
      const float* k = head.k.data() + (first + j) * head.k_dim;
      const double weight = dot(q, k, head.k_dim) * decay_between(G, t, j);
      for (int64_t c = 0; c < v_dim; ++c) o[size_t(c)] += weight * values[size_t(j * v_dim + c)];
    }
    for (int64_t c = 0; c < v_dim; ++c) head.o[size_t((first + t) * v_dim + c)] = float(o[size_t(c)] * scale);
  }
  for (int64_t i = 0; i < head.k_dim; ++i) {
    for (int64_t c = 0; c < v_dim; ++c) {
      double s = std::exp(total) * head.state[i * v_dim + c];
      for (int64_t t = 0; t < n; ++t) {
        const double k = head.k[size_t((first + t) * head.k_dim + i)] * decay_between(G, n - 1, t);
        s += k * values[size_t(t * v_dim + c)];
      }
      head.state[i * v_dim + c] = float(s);
    }
  }
}

// out = rmsnorm(o) * norm * silu(z), into the columns of head h.
void write_gated(const ops::DeltaMixer& op, const ops::Span& span, const Head& head, int64_t h) {
  for (int64_t t = 0; t < span.row_count; ++t) {
    const float* o = head.o.data() + t * op.v_dim;
    const double factor = inverse_rms(o, op.v_dim, op.eps);
    const int64_t at = ((span.first_row + t) * op.v_heads + h) * op.v_dim;
    for (int64_t c = 0; c < op.v_dim; ++c) {
      op.out.values[at + c] = float(o[c] * factor * op.norm[c] * silu(op.z[at + c]));
    }
  }
}

}  // namespace

void delta_mixer(const ops::DeltaMixer& op) {
  DW_CHECK(op.k_heads > 0 && op.v_heads % op.k_heads == 0, "V heads must be a multiple of K heads");
  DW_CHECK(op.out.columns == int64_t(op.v_heads) * op.v_dim, "wrong width of the delta mixer's output");
  for (const ops::Span& span : op.spans) {
    const std::vector<float> u = convolve(op, span);
    for (int64_t h = 0; h < op.v_heads; ++h) {
      Head head = gather_head(op, span, u, h);
      if (op.chunk_of(span) == 0) {
        run_recurrent(head);
      } else {
        for (int64_t first = 0; first < head.tokens; first += op.chunk) {
          run_chunk(head, first, std::min<int64_t>(op.chunk, head.tokens - first));
        }
      }
      write_gated(op, span, head, h);
    }
  }
  quantize(op.out);
}

}  // namespace dw::reference
