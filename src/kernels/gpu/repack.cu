// Weights from the file's layout into the device's, and its row sizes.
#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;

template <quant::Type kType>
__global__ void repack_kernel(const uint8_t* file, uint64_t file_row_bytes, uint8_t* device,
                              uint64_t device_row_bytes, int columns, int64_t rows) {
  wait_for_previous();
  allow_next();
  const int chunks = columns / 32;
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= rows * chunks) return;
  const int64_t row = at / chunks;
  Weights<kType>::repack(file + uint64_t(row) * file_row_bytes, device + uint64_t(row) * device_row_bytes,
                         columns, int(at % chunks));
}

// Whole rows of floats; a thread moves one byte pair of a row, or fills it with zero behind the row's end.
__global__ void repack_float_kernel(const uint16_t* file, int64_t file_pairs, uint16_t* device,
                                    int64_t device_pairs, int64_t rows) {
  wait_for_previous();
  allow_next();
  const int64_t at = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= rows * device_pairs) return;
  const int64_t row = at / device_pairs, pair = at % device_pairs;
  device[at] = pair < file_pairs ? file[row * file_pairs + pair] : uint16_t(0);
}

}  // namespace

uint64_t device_row_bytes(quant::Type type, int64_t columns) {
  uint64_t bytes = 0;
  const bool found =
      visit_float_type(type, [&](auto t) { bytes = FloatWeights<t.value>::row_bytes(columns); }) ||
      visit_quantised_type(type, [&](auto t) { bytes = Weights<t.value>::row_bytes(columns); });
  DW_CHECK(found, "matrices of this type have no device layout");
  return bytes;
}

void repack(Context& context, quant::Type type, int64_t columns, int64_t rows, const std::byte* file_rows,
            std::byte* device_rows) {
  if (rows == 0) return;
  const uint64_t from = quant::row_bytes(type, uint64_t(columns)), to = device_row_bytes(type, columns);
  const Work work = {"repack", double(rows) * double(from + to), 0};
  if (is_float_type(type)) {
    launch(context, "repack_float_kernel", work, repack_float_kernel,
           dim3(ceil_div(rows * int64_t(to / 2), kThreads)), dim3(kThreads), 0,
           reinterpret_cast<const uint16_t*>(file_rows), int64_t(from / 2),
           reinterpret_cast<uint16_t*>(device_rows), int64_t(to / 2), rows);
    return;
  }
  DW_CHECK(columns % quant::type_info(type).block_size == 0, "a row is a whole number of blocks");
  visit_quantised_type(type, [&](auto t) {
    launch(context, "repack_kernel", work, repack_kernel<t.value>,
           dim3(ceil_div(rows * (columns / 32), kThreads)), dim3(kThreads), 0,
           reinterpret_cast<const uint8_t*>(file_rows), from, reinterpret_cast<uint8_t*>(device_rows), to,
           int(columns), rows);
  });
}

}  // namespace dw::gpu
