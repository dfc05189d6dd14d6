#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {

void linear(const ops::Activations& x, std::span<const ops::Linear> outputs) {
  std::vector<float> row(size_t(x.columns));
  for (const ops::Linear& op : outputs) {
    DW_CHECK(op.weight.columns == x.columns, "the matrix does not fit its input");
    const int64_t stride = op.out_stride ? op.out_stride : op.weight.rows;
    for (int64_t n = 0; n < op.weight.rows; ++n) {
      dequantize_row(op.weight, n, row.data());
      for (int64_t t = 0; t < x.tokens; ++t) {
        const double sum = dot(row.data(), x.values + t * x.columns, x.columns);
        float& out = op.out[t * stride + n];
        out = float(op.add ? out + sum : sum);
      }
    }
  }
}

}  // namespace dw::reference
