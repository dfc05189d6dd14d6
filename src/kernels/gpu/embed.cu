// Rows of the embedding table.
#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 128;

// One token a block; a thread decodes whole chunks.
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const uint8_t* table, uint64_t row_bytes, quant::Type type, int columns, const int32_t* ids,
                 float* out, IqTables tables) {
  wait_for_previous();
  allow_next();
  const uint8_t* row = table + uint64_t(ids[blockIdx.x]) * row_bytes;
  float* to = out + int64_t(blockIdx.x) * columns;
  visit_float_type(type, [&](auto t) {
    for (int i = threadIdx.x; i < columns; i += kThreads) to[i] = FloatWeights<t.value>::get(row, i);
  });
  visit_quantised_type(type, [&](auto t) {
    using W = Weights<t.value>;
    for (int chunk = threadIdx.x; chunk < columns / 32; chunk += kThreads) {
      const Chunk c = W::decode(W::fetch(row, columns, chunk), chunk, tables);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float scale = c.scale[j / 4], offset = c.offset[j / 4];
        float4 v;
        v.x = scale * float(int8_t(c.q[j])) + offset;
        v.y = scale * float(int8_t(c.q[j] >> 8)) + offset;
        v.z = scale * float(int8_t(c.q[j] >> 16)) + offset;
        v.w = scale * float(int8_t(c.q[j] >> 24)) + offset;
        reinterpret_cast<float4*>(to)[8 * chunk + j] = v;
      }
    }
  });
}

}  // namespace

void embed(Context& context, const ops::Embed& op, const int32_t* ids) {
  if (op.tokens == 0) return;
  const Work work = {"embed",
                     double(op.tokens) * (double(op.table.row_stride()) + 4.0 * double(op.table.columns)), 0};
  launch(context, "embed_kernel", work, embed_kernel, dim3(uint32_t(op.tokens)), dim3(kThreads), 0,
         reinterpret_cast<const uint8_t*>(op.table.data), op.table.row_stride(), op.table.type,
         int(op.table.columns), ids, op.out, context.tables);
}

}  // namespace dw::gpu
