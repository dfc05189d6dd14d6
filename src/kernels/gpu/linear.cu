// linear(): which kernel multiplies.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/weights_base.h"

namespace dw::gpu {

namespace {

// Whether gemv_tile() is the way to go: large matrices keep mma's blocks busy all the same, and it takes
// fewer instructions where tokens are many.
[[maybe_unused]] bool suits_tiles(const Context& context, const ops::Activations& x,
                                  std::span<const ops::Linear> outputs) {
  if (x.quants == nullptr || x.tokens < kFirstTileTokens || x.tokens > kLastTileTokens) return false;
  uint64_t bytes = 0;
  for (const ops::Linear& output : outputs) bytes += output.weight.matrix_bytes();
  return x.tokens <= kGemvTokens || bytes < uint64_t(context.limits.multiprocessors) * kLargeShare;
}

}  // namespace

void linear(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs,
            const ops::Norm* norm_op) {
  if (x.tokens == 0) return;
  for (const ops::Linear& output : outputs) {
    DW_CHECK(output.weight.columns == x.columns, "the matrix does not fit the activations");
    DW_CHECK(is_float_type(output.weight.type) || x.quants != nullptr,
             "quantised weights need quantised activations");
  }
#if defined(DW_GPU_CUDA)
  if (context.limits.architecture >= 900 && suits_tiles(context, x, outputs)) {
    if (norm_op != nullptr) norm(context, *norm_op, nullptr);
    if (gemv_tile(context, x, outputs)) return;
    norm_op = nullptr;
  }
#endif
  const bool few = x.tokens <= kGemvTokens;
  // The fused norm quantises as it goes, and is computed anew by every block: one launch less is worth that
  // only once.
  const bool fused =
      norm_op != nullptr && few && x.quants != nullptr && outputs.size() <= size_t(kMaxOutputs);
  if (norm_op != nullptr && !fused) norm(context, *norm_op, nullptr);
  if (few) {
    for (size_t first = 0; first < outputs.size(); first += kMaxOutputs)
      gemv(context, x, outputs.subspan(first, std::min(outputs.size() - first, size_t(kMaxOutputs))),
           fused ? norm_op : nullptr);
    return;
  }
#if defined(DW_GPU_CUDA)
  if (linear_mma(context, x, outputs)) return;
#endif
  for (const ops::Linear& output : outputs) gemm_dot4(context, x, output);
}

}  // namespace dw::gpu
