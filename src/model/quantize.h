// Re-quantisation: any readable GGUF file to another file type, tensor by tensor, in pieces of bounded size.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/expected.h"
#include "gguf/file.h"
#include "model/file_type.h"

namespace dw {

struct QuantizeOptions {
  FileType file_type{};
  bool pure = false;              // the base type for every matrix that is quantised
  bool allow_requantize = false;  // from types of fewer than 8 bits, which loses quality
  std::vector<TypeOverride> overrides;
  int threads = 0;                                   // 0: all cores
  std::function<void(uint64_t, uint64_t)> progress;  // bytes written, bytes in all
  std::function<bool()> interrupted;                 // true: stop with an Error
};

struct QuantizedTensor {
  std::string name;
  quant::Type source, type;
  uint64_t source_bytes = 0, size_bytes = 0;
  std::string note;  // why another type than the mix's was taken; usually empty
};

struct QuantizeReport {
  std::vector<QuantizedTensor> tensors;
  uint64_t source_bytes = 0, file_bytes = 0;  // files, headers included
  double bits_per_weight = 0;
};

// Copies the metadata (without split.*), sets general.file_type and general.quantization_version, keeps the
// order of the tensors. Errors name the tensor: a type that cannot be read or written, values that are not
// finite, input types below 8 bits without allow_requantize. Results do not depend on the number of threads.
Expected<QuantizeReport> quantize_file(const gguf::File& input, const std::string& path,
                                       const QuantizeOptions& options);

}  // namespace dw
