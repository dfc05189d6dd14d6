// The dynamic shared memory of a block, as bytes.
#pragma once

#include "kernels/gpu/compat.h"

namespace dw::gpu {

DW_DEVICE uint8_t* shared_memory() {
  extern __shared__ uint4 dynamic_shared[];
  return reinterpret_cast<uint8_t*>(dynamic_shared);
}

}  // namespace dw::gpu
