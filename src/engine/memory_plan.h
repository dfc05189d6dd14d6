// What a model needs on its device, part by part, worked out from the header of its file before anything is
// allocated; and the refusal when it does not fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/expected.h"
#include "gguf/file.h"
#include "model/model.h"

namespace dw {

struct MemoryPlan {
  struct Part {
    std::string name;
    uint64_t bytes = 0;
    bool mapped = false;  // lies in a mapped file: the kernel may drop and reread it, so it need not fit
  };
  std::vector<Part> parts;
  uint64_t resident_bytes() const;  // what must fit
  uint64_t mapped_bytes() const;
  // Do mapped parts have to be reread during use, because not all of it can stay in `free_bytes`?
  bool exceeds(uint64_t free_bytes) const { return resident_bytes() + mapped_bytes() > free_bytes; }
};

struct MemoryRequest {
  ModelOptions model;
  StateOptions state;
  bool weights_mapped = true;
  int32_t threads = 1;
  int32_t snapshots = 0;  // of recurrent state, kept in host memory
};

MemoryPlan plan_memory(const gguf::File& file, const HyperParameters& h, const MemoryRequest& request);

// An Error with needed and free memory and the flags that help, when the plan does not fit.
Expected<void> check_fits(const MemoryPlan& plan, uint64_t free_bytes);

}  // namespace dw
