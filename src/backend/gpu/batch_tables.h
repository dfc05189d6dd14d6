// The batch's tables on the device: token ids, logit rows, spans, the span of each row and KV page numbers.
// They lie at fixed addresses (grown while nothing is captured), so that a captured graph finds the next
// batch where it found the last.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/gpu/runtime.h"

namespace dw::gpu {

class BatchTables {
 public:
  BatchTables() = default;
  BatchTables(const BatchTables&) = delete;
  BatchTables& operator=(const BatchTables&) = delete;
  ~BatchTables();

  // Copies the batch to the device. True when an address changed: graphs captured before are void.
  bool upload(const ops::Batch& batch, int32_t page_tokens, Stream stream);

  const BatchTable& table() const { return table_; }
  const int32_t* ids() const { return ids_; }
  const int32_t* logit_rows() const { return logit_rows_; }
  // The batch whose tables these are.
  bool holds(std::span<const ops::Span> spans) const {
    return spans_ == spans.data() && table_.span_count == int32_t(spans.size());
  }
  bool holds_ids(const int32_t* ids) const { return ids != nullptr && ids == host_ids_; }
  bool holds_rows(const int32_t* rows) const { return rows != nullptr && rows == host_rows_; }
  void forget() { spans_ = nullptr, host_ids_ = host_rows_ = nullptr; }

 private:
  struct Sizes {
    int64_t ids = 0, rows = 0, spans = 0, row_span = 0, pages = 0;
  };
  bool reserve(const Sizes& sizes, Stream stream);

  Sizes capacity_;
  std::byte* device_ = nullptr;
  std::byte* pinned_ = nullptr;
  uint64_t bytes_ = 0;
  BatchTable table_;
  const int32_t* ids_ = nullptr;
  const int32_t* logit_rows_ = nullptr;
  const ops::Span* spans_ = nullptr;  // host, only compared
  const int32_t* host_ids_ = nullptr;
  const int32_t* host_rows_ = nullptr;
};

}  // namespace dw::gpu
