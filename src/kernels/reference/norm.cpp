#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {

void norm(const ops::Norm& op) {
  const int64_t columns = op.out.columns;
  for (int64_t t = 0; t < op.out.tokens; ++t) {
    const float* x = op.x + (op.rows ? op.rows[t] : t) * columns;
    const double factor = inverse_rms(x, columns, op.eps);
    for (int64_t i = 0; i < columns; ++i) {
      op.out.values[t * columns + i] = float(x[i] * factor * op.weight[i]);
    }
  }
  quantize(op.out);
}

}  // namespace dw::reference
