// The CPU behind the op contract: kernels/cpu on a thread pool, weights used where they lie in the mapped
// file.
#pragma once

#include <memory>
#include <optional>

#include "backend/device.h"
#include "base/cpu_features.h"

namespace dw {

struct CpuOptions {
  int threads = 0;                // 0: one a physical core
  std::optional<CpuLevel> level;  // empty: the best this processor has
};

// Errors: a level the processor lacks, a thread count out of range (1..1024).
Expected<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options = {});

}  // namespace dw
