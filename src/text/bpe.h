// Byte-pair encoding of one pre-tokenized piece: starting from single bytes, the adjacent pair whose merge
// has the lowest rank is joined, the leftmost first among equals, until no pair has a merge (Sennrich et al.,
// 2016; byte level as in GPT-2). Short pieces are scanned, long ones go through a heap, O(n log n).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace dw {

// Merges by pair of token ids: open addressing, at most two thirds full.
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;  // -1: no such merge
    int32_t result = -1;
  };

  explicit MergeTable(size_t merge_count);
  // A pair inserted twice keeps the later rank, as the Hugging Face tokenizers package does.
  void insert(int32_t left, int32_t right, Merge merge);
  Merge find(int32_t left, int32_t right) const {
    const uint64_t key = make_key(left, right);
    for (size_t at = slot(key);; at = (at + 1) & mask_) {
      if (slots_[at].key == key) return slots_[at].merge;
      if (slots_[at].merge.rank < 0) return {};
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t make_key(int32_t left, int32_t right) {
    return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
  }
  size_t slot(uint64_t key) const { return size_t(key * 0x9e3779b97f4a7c15ull >> 32) & mask_; }

  std::vector<Slot> slots_;
  size_t mask_;
};

// What encoding needs and keeps between pieces: work space and a bounded cache of short pieces (direct
// mapped, 2 MiB). One user at a time.
class BpeScratch {
 public:
  BpeScratch();

 private:
  friend class Bpe;
  static constexpr size_t kLongestKey = 31, kMostIds = 7, kEntryCount = size_t(1) << 15;
  struct alignas(64) Entry {
    std::array<uint64_t, 4> key{};  // the bytes, zero-padded; the length in the last byte (0: free)
    std::array<int32_t, kMostIds> ids{};
    int32_t count = 0;
  };
  struct Symbol {
    int32_t id;               // -1: merged into its left neighbour
    uint32_t previous, next;  // indices
  };
  struct Candidate {
    int32_t rank;
    uint32_t position;
    int32_t left, right;  // the ids it was made for: when they changed, it is stale
    int32_t result;
  };

  std::unique_ptr<Entry[]> cache_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

class Bpe {
 public:
  Bpe(MergeTable merges, std::array<int32_t, 256> byte_ids)
      : merges_(std::move(merges)), byte_ids_(byte_ids) {}

  // Appends the ids of piece; piece.size() < 2^32.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;

 private:
  void merge_short(std::string_view piece, std::vector<int32_t>& out) const;
  void merge_long(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;
  void push_candidate(BpeScratch& scratch, uint32_t position) const;

  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace dw
