#include "kernels/cpu/moe.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/matmul.h"

namespace dw::cpu {
namespace {

// Rows of a matrix one task covers: small enough to share 10 experts among many threads, large enough that a
// task outlasts the cost of fetching it.
constexpr int64_t kRowsPerTask = 64;

int64_t task_count(int64_t rows) {
  return (rows + kRowsPerTask - 1) / kRowsPerTask;
}

template <class T>
void grow(std::vector<T>& vector, int64_t size) {
  if (int64_t(vector.size()) < size) vector.resize(size_t(size));
}

int64_t expert_width(const ops::Moe& op) {
  return op.down.columns;
}

// Rows of the down matrices a task owns. Each call packs its activations anew, so few large tasks.
int64_t down_rows(int64_t hidden, int threads) {
  return std::clamp<int64_t>(hidden / (int64_t(threads) * 4) / 64 * 64, 64, 512);
}

ops::Activations view(std::vector<float>& values, std::vector<int8_t>& quants, std::vector<float>& scales,
                      std::vector<int16_t>& sums, int64_t rows, int64_t columns) {
  ops::Activations a;
  a.tokens = rows;
  a.columns = columns;
  a.values = values.data();
  if (columns % 32 == 0) {
    a.quants = quants.data();
    a.scales = scales.data();
    a.sums = sums.data();
  }
  return a;
}

// Router logits and the shared expert's gate.
void score(const Context& context, const ops::Moe& op, MoeWorkspace& w) {
  const int64_t tokens = op.x.tokens, hidden = op.x.columns;
  MatmulCall call;
  call.weight = op.router;
  call.x = op.x;
  call.token_count = tokens;
  call.out = w.logits.data();
  call.out_stride = op.expert_count;
  context.pool->parallel_for(task_count(op.router.rows), [&](int64_t task, int) {
    matmul_rows(context.level, call, task * kRowsPerTask,
                std::min((task + 1) * kRowsPerTask, op.router.rows));
  });
  if (!op.shared_down) return;
  if (op.shared_router == nullptr) {
    std::fill_n(w.shared_weight.begin(), tokens, 1.0f);
    return;
  }
  MatmulCall gate;
  gate.weight = {quant::Type::F32, reinterpret_cast<const std::byte*>(op.shared_router), 1, hidden, 1};
  gate.x = op.x;
  gate.token_count = tokens;
  gate.out = w.shared_weight.data();
  gate.out_stride = 1;
  matmul_rows(context.level, gate, 0, 1);
  for (int64_t t = 0; t < tokens; ++t)
    w.shared_weight[size_t(t)] = 1 / (1 + std::exp(-w.shared_weight[size_t(t)]));
}

// Counting sort of the (token, expert) pairs by expert; within an expert, by token.
void group_by_expert(const ops::Moe& op, MoeWorkspace& w) {
  const int64_t pairs = op.x.tokens * op.top_k;
  std::fill_n(w.first_pair.begin(), op.expert_count + 1, 0);
  for (int64_t p = 0; p < pairs; ++p) ++w.first_pair[size_t(w.experts[size_t(p)]) + 1];
  w.active.clear();
  for (int32_t e = 0; e < op.expert_count; ++e) {
    if (w.first_pair[size_t(e) + 1] > 0) w.active.push_back(e);
    w.first_pair[size_t(e) + 1] += w.first_pair[size_t(e)];
  }
  std::vector<int32_t> next(w.first_pair.begin(), w.first_pair.begin() + op.expert_count);
  for (int64_t t = 0; t < op.x.tokens; ++t)
    for (int32_t i = 0; i < op.top_k; ++i) {
      const int32_t place = next[size_t(w.experts[size_t(t * op.top_k + i)])]++;
      w.pair_token[size_t(place)] = int32_t(t);
      w.pair_weight[size_t(place)] = w.weights[size_t(t * op.top_k + i)];
    }
}

// Asks for the weights of all chosen experts at once, in the order of their use, so that the disk has a deep
// queue to work on; faults alone would bring them in page by page.
void fetch_experts(PageFetcher& fetcher, const ops::Moe& op, const MoeWorkspace& w) {
  auto fetch = [&](const ops::Matrix& experts, int32_t e) {
    if (experts) fetcher.add(experts.expert(e).data, experts.matrix_bytes());
  };
  for (int32_t e : w.active) {
    fetch(op.gate_up, e);
    fetch(op.gate, e);
    fetch(op.up, e);
  }
  for (int32_t e : w.active) fetch(op.down, e);
  fetcher.submit();
}

// One gate / up matrix as a list of tasks, so that experts and the shared expert share one parallel loop.
struct Projection {
  MatmulCall call;
  int64_t first_task = 0;
};

void add_projection(std::vector<Projection>& list, const ops::Matrix& matrix, const ops::Activations& x,
                    const int32_t* tokens, int64_t token_count, float* out, int64_t out_stride) {
  MatmulCall call;
  call.weight = matrix;
  call.x = x;
  call.token_rows = tokens;
  call.token_count = token_count;
  call.out = out;
  call.out_stride = out_stride;
  list.push_back({call, 0});
}

void run_projections(const Context& context, std::vector<Projection>& list, ThreadPool::Order order) {
  int64_t total_rows = 0, tasks = 0;
  for (const Projection& p : list) total_rows += p.call.weight.rows;
  const int64_t step = rows_per_task(total_rows, context.pool->thread_count());
  for (Projection& p : list) {
    p.first_task = tasks;
    tasks += (p.call.weight.rows + step - 1) / step;
  }
  context.pool->parallel_for(
      tasks,
      [&](int64_t task, int) {
        const auto after = std::upper_bound(list.begin(), list.end(), task,
                                            [](int64_t t, const Projection& p) { return t < p.first_task; });
        const Projection& p = *(after - 1);
        const int64_t begin = (task - p.first_task) * step;
        MatmulCall call = p.call;
        // In turn, the next matrix is another thread's; what follows in memory, the next expert, is this
        // one's.
        if (order == ThreadPool::Order::kContiguous && begin + step >= call.weight.rows &&
            after != list.end())
          call.next = after->call.weight.data;
        matmul_rows(context.level, call, begin, std::min(begin + step, call.weight.rows));
      },
      order);
}

void gate_and_up(const Context& context, const ops::Moe& op, MoeWorkspace& w) {
  const int64_t width = expert_width(op);
  std::vector<Projection> list;
  list.reserve(w.active.size() * 2 + 2);
  for (int32_t e : w.active) {
    const int32_t first = w.first_pair[size_t(e)];
    const int64_t count = w.first_pair[size_t(e) + 1] - first;
    const int32_t* tokens = w.pair_token.data() + first;
    float* out = w.gate_up.data() + int64_t(first) * 2 * width;
    if (op.gate_up) {
      add_projection(list, op.gate_up.expert(e), op.x, tokens, count, out, 2 * width);
    } else {
      add_projection(list, op.gate.expert(e), op.x, tokens, count, out, 2 * width);
      add_projection(list, op.up.expert(e), op.x, tokens, count, out + width, 2 * width);
    }
  }
  if (op.shared_down) {
    const int64_t shared = op.shared_down.columns;
    float* out = w.shared_gate_up.data();
    add_projection(list, op.shared_gate, op.x, nullptr, op.x.tokens, out, 2 * shared);
    add_projection(list, op.shared_up, op.x, nullptr, op.x.tokens, out + shared, 2 * shared);
  }
  run_projections(context, list, matrix_order(op.x.tokens));
}

void activate(const Context& context, const ops::Moe& op, MoeWorkspace& w, const ops::Activations& routed,
              const ops::Activations& shared) {
  const int64_t pairs = op.x.tokens * op.top_k;
  const int64_t rows = pairs + (op.shared_down ? op.x.tokens : 0);
  context.pool->parallel_for(rows, [&](int64_t row, int) {
    const bool is_shared = row >= pairs;
    const int64_t i = is_shared ? row - pairs : row;
    const int64_t width = is_shared ? op.shared_down.columns : expert_width(op);
    const float* gate = (is_shared ? w.shared_gate_up.data() : w.gate_up.data()) + i * 2 * width;
    silu_multiply(context.level, gate, gate + width, width, is_shared ? shared : routed, i);
  });
}

void accumulate(float* out, const float* values, float weight, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] += weight * values[i];
}

// A task owns `step` columns of the output for all tokens and goes through the experts in rising order.
void down(const Context& context, const ops::Moe& op, MoeWorkspace& w, const ops::Activations& routed,
          const ops::Activations& shared) {
  const int64_t hidden = op.down.rows, step = down_rows(hidden, context.pool->thread_count());
  context.pool->parallel_for(
      (hidden + step - 1) / step,
      [&](int64_t task, int thread) {
        const int64_t begin = task * step, end = std::min(begin + step, hidden);
        float* rows = w.thread_rows[size_t(thread)].data();  // [tokens of the expert, step]
        MatmulCall call;
        call.out = rows - begin;
        call.out_stride = step;
        std::vector<int32_t>& identity = w.pair_rows[size_t(thread)];
        const uint64_t row_bytes = quant::row_bytes(op.down.type, uint64_t(op.down.columns));
        for (size_t a = 0; a < w.active.size(); ++a) {
          const int32_t e = w.active[a], first = w.first_pair[size_t(e)];
          call.weight = op.down.expert(e);
          call.next = a + 1 < w.active.size()
                          ? op.down.expert(w.active[a + 1]).data + uint64_t(begin) * row_bytes
                          : nullptr;
          call.x = routed;
          call.token_count = w.first_pair[size_t(e) + 1] - first;
          for (int64_t i = 0; i < call.token_count; ++i) identity[size_t(i)] = int32_t(first + i);
          call.token_rows = identity.data();
          matmul_rows(context.level, call, begin, end);
          for (int64_t i = 0; i < call.token_count; ++i)
            accumulate(op.out + int64_t(w.pair_token[size_t(first + i)]) * hidden + begin, rows + i * step,
                       w.pair_weight[size_t(first + i)], end - begin);
        }
        if (!op.shared_down) return;
        call.weight = op.shared_down;
        call.next = nullptr;
        call.x = shared;
        call.token_rows = nullptr;
        call.token_count = op.x.tokens;
        matmul_rows(context.level, call, begin, end);
        for (int64_t t = 0; t < op.x.tokens; ++t)
          accumulate(op.out + t * hidden + begin, rows + t * step, w.shared_weight[size_t(t)], end - begin);
      },
      matrix_order(op.x.tokens));
}

}  // namespace

void MoeWorkspace::prepare(const ops::Moe& op, int thread_count) {
  const int64_t tokens = op.x.tokens, pairs = tokens * op.top_k, width = expert_width(op);
  grow(logits, tokens * op.expert_count);
  grow(experts, pairs);
  grow(weights, pairs);
  grow(shared_weight, tokens);
  grow(first_pair, op.expert_count + 1);
  active.reserve(size_t(op.expert_count));
  grow(pair_token, pairs);
  grow(pair_weight, pairs);
  grow(gate_up, pairs * 2 * width);
  grow(values, pairs * width);
  grow(quants, pairs * width);
  grow(scales, pairs * (width / 32));
  grow(sums, pairs * (width / 16));
  const int64_t shared = op.shared_down ? op.shared_down.columns : 0;
  grow(shared_gate_up, tokens * 2 * shared);
  grow(shared_values, tokens * shared);
  grow(shared_quants, tokens * shared);
  grow(shared_scales, tokens * (shared / 32));
  grow(shared_sums, tokens * (shared / 16));
  if (int(thread_rows.size()) < thread_count) thread_rows.resize(size_t(thread_count));
  if (int(pair_rows.size()) < thread_count) pair_rows.resize(size_t(thread_count));
  for (auto& rows : thread_rows) grow(rows, tokens * down_rows(op.down.rows, thread_count));
  for (auto& rows : pair_rows) grow(rows, tokens);
}

uint64_t MoeWorkspace::size_bytes(int64_t tokens, int32_t expert_count, int32_t top_k, int64_t width,
                                  int64_t shared_width, int thread_count) {
  const int64_t pairs = tokens * top_k;
  const int64_t activation_bytes = 8 + 4 + 1 + 4 / 32 + 2 / 16;  // gate, up; values, quants, scales, sums
  return uint64_t(tokens * expert_count * 4 + pairs * 16 + pairs * width * (activation_bytes + 1) +
                  tokens * shared_width * (activation_bytes + 1) + thread_count * tokens * (512 * 4 + 4));
}

void moe(const Context& context, const ops::Moe& op, MoeWorkspace& w) {
  DW_CHECK(op.x.tokens > 0 && op.top_k > 0 && op.top_k <= op.expert_count, "moe: bad sizes");
  w.prepare(op, context.pool->thread_count());
  score(context, op, w);
  route(context, w.logits.data(), op.x.tokens, op.expert_count, op.top_k, op.normalise, w.experts.data(),
        w.weights.data());
  group_by_expert(op, w);
  if (context.fetcher != nullptr) fetch_experts(*context.fetcher, op, w);
  gate_and_up(context, op, w);
  const ops::Activations routed =
      view(w.values, w.quants, w.scales, w.sums, op.x.tokens * op.top_k, expert_width(op));
  ops::Activations shared;
  if (op.shared_down)
    shared = view(w.shared_values, w.shared_quants, w.shared_scales, w.shared_sums, op.x.tokens,
                  op.shared_down.columns);
  activate(context, op, w, routed, shared);
  down(context, op, w, routed, shared);
}

}  // namespace dw::cpu
