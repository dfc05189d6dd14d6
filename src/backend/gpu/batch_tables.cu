#include "backend/gpu/batch_tables.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace dw::gpu {
namespace {

constexpr int32_t kSmallestBound = 256;

int64_t grown(int64_t capacity, int64_t needed) {
  return needed <= capacity ? capacity : int64_t(std::bit_ceil(uint64_t(std::max<int64_t>(needed, 64))));
}

int32_t page_count(const ops::Span& span, int32_t page_tokens) {
  return span.pages == nullptr ? 0 : (span.position + span.row_count + page_tokens - 1) / page_tokens;
}

}  // namespace

BatchTables::~BatchTables() {
  if (device_ != nullptr) (void)free_device(device_);
  if (pinned_ != nullptr) (void)free_pinned(pinned_);
}

bool BatchTables::reserve(const Sizes& sizes, Stream stream) {
  Sizes wanted;
  wanted.ids = grown(capacity_.ids, sizes.ids);
  wanted.rows = grown(capacity_.rows, sizes.rows);
  wanted.spans = grown(capacity_.spans, sizes.spans);
  wanted.row_span = grown(capacity_.row_span, sizes.row_span);
  wanted.pages = grown(capacity_.pages, sizes.pages);
  if (device_ != nullptr && wanted.ids == capacity_.ids && wanted.rows == capacity_.rows &&
      wanted.spans == capacity_.spans && wanted.row_span == capacity_.row_span &&
      wanted.pages == capacity_.pages)
    return false;
  capacity_ = wanted;
  check_runtime(synchronize(stream), "synchronise");
  if (device_ != nullptr) check_runtime(free_device(device_), "free");
  if (pinned_ != nullptr) check_runtime(free_pinned(pinned_), "free");
  bytes_ = uint64_t(wanted.ids + wanted.rows + wanted.row_span + wanted.pages) * sizeof(int32_t) +
           uint64_t(wanted.spans) * sizeof(SpanEntry);
  void* memory = nullptr;
  check_runtime(allocate_device(&memory, bytes_), "allocate the batch's tables");
  device_ = static_cast<std::byte*>(memory);
  check_runtime(allocate_pinned(&memory, bytes_), "allocate page-locked memory");
  pinned_ = static_cast<std::byte*>(memory);
  return true;
}

bool BatchTables::upload(const ops::Batch& batch, int32_t page_tokens, Stream stream) {
  Sizes sizes;
  sizes.ids = int64_t(batch.ids.size());
  sizes.rows = int64_t(batch.logit_rows.size());
  sizes.spans = int64_t(batch.spans.size());
  int32_t longest = 0, context = 0;
  for (const ops::Span& span : batch.spans) {
    sizes.row_span += span.row_count;
    sizes.pages += page_count(span, page_tokens);
    longest = std::max(longest, span.row_count);
    context = std::max(context, span.position + span.row_count);
  }
  // The copy of the batch before may still be read by the device.
  check_runtime(synchronize(stream), "synchronise");
  const bool moved = reserve(sizes, stream);

  auto* at = reinterpret_cast<int32_t*>(pinned_);
  const auto on_device = [&](const int32_t* host) {
    return reinterpret_cast<const int32_t*>(device_ + (reinterpret_cast<const std::byte*>(host) - pinned_));
  };
  std::copy(batch.ids.begin(), batch.ids.end(), at);
  ids_ = on_device(at);
  at += capacity_.ids;
  std::copy(batch.logit_rows.begin(), batch.logit_rows.end(), at);
  logit_rows_ = on_device(at);
  at += capacity_.rows;
  int32_t* row_span = at;
  at += capacity_.row_span;
  int32_t* pages = at;
  at += capacity_.pages;
  auto* entries = reinterpret_cast<SpanEntry*>(at);
  int32_t page = 0;
  for (size_t i = 0; i < batch.spans.size(); ++i) {
    const ops::Span& span = batch.spans[i];
    entries[i] = {span.slot, span.first_row, span.row_count, span.position, page};
    std::fill_n(row_span + span.first_row, span.row_count, int32_t(i));
    const int32_t count = page_count(span, page_tokens);
    if (count > 0) std::copy_n(span.pages, count, pages + page);
    page += count;
  }
  check_runtime(copy(device_, pinned_, bytes_, CopyKind::kToDevice, stream), "copy the batch's tables");

  table_.spans = reinterpret_cast<const SpanEntry*>(on_device(at));
  table_.row_span = on_device(row_span);
  table_.pages = on_device(pages);
  table_.span_count = int32_t(batch.spans.size());
  table_.tokens = int32_t(sizes.row_span);
  table_.longest_span = longest;
  table_.context_bound = int32_t(std::bit_ceil(uint32_t(std::max(context, kSmallestBound))));
  spans_ = batch.spans.data();
  host_ids_ = batch.ids.empty() ? nullptr : batch.ids.data();
  host_rows_ = batch.logit_rows.empty() ? nullptr : batch.logit_rows.data();
  return moved;
}

}  // namespace dw::gpu
