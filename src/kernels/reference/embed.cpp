#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {

void embed(const ops::Embed& op) {
  for (int64_t t = 0; t < op.tokens; ++t) {
    DW_CHECK(op.ids[t] >= 0 && op.ids[t] < op.table.rows, "token id outside the vocabulary");
    dequantize_row(op.table, op.ids[t], op.out + t * op.table.columns);
  }
}

}  // namespace dw::reference
