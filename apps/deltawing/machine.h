// What `doctor` finds out: the machine, and how a model would do on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/device.h"
#include "backend/gpu_device.h"
#include "engine/engine.h"

namespace dw {

struct MachineReport {
  std::string processor, level, kernel;
  int32_t cores = 0, logical_processors = 0;  // that this process may use
  int32_t numa_nodes = 1;
  MemoryInfo memory;
  uint64_t memory_limit_bytes = 0;  // of the control group; 0: none
  uint64_t swap_bytes = 0;
  std::string huge_pages;            // of transparent huge pages: always, madvise, never
  double read_bandwidth = 0;         // bytes per second
  uint64_t address_space_limit = 0;  // bytes; 0: none
  uint64_t locked_memory_limit = 0;  // bytes; 0: none
  std::vector<GpuInfo> gpus;
  std::string gpu_problem;             // why there are none
  std::vector<std::string> gpu_nodes;  // GPU device files present, although this build cannot use them
};

struct ModelReport {
  std::string path, name;
  MemoryPlan plan;
  int32_t context_tokens = 0;
  std::string refusal;  // why the engine would refuse the model; empty: it would not
  double bytes_per_token = 0;
  double tokens_per_second = 0;  // the most that memory bandwidth allows
};

struct DoctorReport {
  MachineReport machine;
  bool has_model = false;
  ModelReport model;
  std::vector<std::string> warnings;
};

MachineReport inspect_machine(int32_t threads);
// Never an Error: what is wrong with the model is its refusal.
ModelReport inspect_model(const EngineOptions& options, double read_bandwidth);
std::vector<std::string> find_warnings(const DoctorReport& report);

}  // namespace dw
