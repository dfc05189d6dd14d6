#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace dw {
namespace {

constexpr size_t kShortPiece = 64;  // bytes up to which scanning beats the heap
constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

size_t hash_key(const std::array<uint64_t, 4>& key) {
  uint64_t hash = key[0] * 0x9e3779b97f4a7c15ull;
  hash = (std::rotl(hash, 29) ^ key[1]) * 0xbf58476d1ce4e5b9ull;
  hash = (std::rotl(hash, 29) ^ key[2]) * 0x94d049bb133111ebull;
  hash = (std::rotl(hash, 29) ^ key[3]) * 0x9e3779b97f4a7c15ull;
  return size_t(hash >> 40);
}

}  // namespace

MergeTable::MergeTable(size_t merge_count)
    : slots_(std::bit_ceil(merge_count + merge_count / 2 + 2)), mask_(slots_.size() - 1) {}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = make_key(left, right);
  size_t at = slot(key);
  while (slots_[at].merge.rank >= 0 && slots_[at].key != key) at = (at + 1) & mask_;
  slots_[at] = {key, merge};
}

BpeScratch::BpeScratch() : cache_(std::make_unique<Entry[]>(kEntryCount)) {}

void Bpe::encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const {
  if (piece.size() == 1) {
    out.push_back(byte_ids_[static_cast<unsigned char>(piece[0])]);
    return;
  }
  if (piece.size() > kShortPiece) return merge_long(piece, scratch, out);
  if (piece.size() > BpeScratch::kLongestKey) return merge_short(piece, out);

  std::array<uint64_t, 4> key{};
  std::memcpy(key.data(), piece.data(), piece.size());
  reinterpret_cast<unsigned char*>(key.data())[BpeScratch::kLongestKey] =
      static_cast<unsigned char>(piece.size());
  BpeScratch::Entry& entry = scratch.cache_[hash_key(key) % BpeScratch::kEntryCount];
  if (entry.key == key) {
    out.insert(out.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
    return;
  }
  const size_t start = out.size();
  merge_short(piece, out);
  const size_t count = out.size() - start;
  if (count > BpeScratch::kMostIds) return;
  entry.key = key;
  entry.count = int32_t(count);
  std::copy(out.begin() + int64_t(start), out.end(), entry.ids.begin());
}

void Bpe::merge_short(std::string_view piece, std::vector<int32_t>& out) const {
  std::array<int32_t, kShortPiece> ids, ranks, results;  // [count]; ranks and results: of the pair i, i + 1
  size_t count = piece.size();
  const auto rank_pair = [&](size_t i) {
    const MergeTable::Merge merge = merges_.find(ids[i], ids[i + 1]);
    ranks[i] = merge.rank < 0 ? kNoRank : merge.rank;
    results[i] = merge.result;
  };
  for (size_t i = 0; i < count; ++i) ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
  for (size_t i = 0; i + 1 < count; ++i) rank_pair(i);
  while (count > 1) {
    const auto best =
        size_t(std::min_element(ranks.begin(), ranks.begin() + int64_t(count) - 1) - ranks.begin());
    if (ranks[best] == kNoRank) break;
    ids[best] = results[best];
    std::copy(ids.begin() + int64_t(best) + 2, ids.begin() + int64_t(count), ids.begin() + int64_t(best) + 1);
    const int64_t pairs = int64_t(count) - 1;
    if (int64_t(best) + 1 < pairs) {  // the pair after the merged one starts there now
      std::copy(ranks.begin() + int64_t(best) + 1, ranks.begin() + pairs, ranks.begin() + int64_t(best));
      std::copy(results.begin() + int64_t(best) + 1, results.begin() + pairs,
                results.begin() + int64_t(best));
    }
    --count;
    if (best + 1 < count) rank_pair(best);
    if (best > 0) rank_pair(best - 1);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + int64_t(count));
}

// Later is greater: std::push_heap keeps the greatest first, so the order is turned round.
void Bpe::push_candidate(BpeScratch& scratch, uint32_t position) const {
  const auto& symbols = scratch.symbols_;
  const uint32_t next = symbols[position].next;
  if (next == kNone) return;
  const int32_t left = symbols[position].id, right = symbols[next].id;
  const MergeTable::Merge merge = merges_.find(left, right);
  if (merge.rank < 0) return;
  scratch.heap_.push_back({merge.rank, position, left, right, merge.result});
}

void Bpe::merge_long(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const {
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  const auto later = [](const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  symbols.clear();
  heap.clear();
  const auto count = uint32_t(piece.size());
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(piece[i])];
    symbols.push_back({id, i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1});
  }
  for (uint32_t i = 0; i < count; ++i) push_candidate(scratch, i);
  std::make_heap(heap.begin(), heap.end(), later);
  const auto add = [&](uint32_t position) {
    const size_t before = heap.size();
    push_candidate(scratch, position);
    if (heap.size() != before) std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const BpeScratch::Candidate candidate = heap.back();
    heap.pop_back();
    auto& left = symbols[candidate.position];
    if (left.id != candidate.left || left.next == kNone) continue;
    auto& right = symbols[left.next];
    if (right.id != candidate.right) continue;
    left.id = candidate.result;
    right.id = -1;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.position;
    if (left.previous != kNone) add(left.previous);
    add(candidate.position);
  }
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) out.push_back(symbols[i].id);
  constexpr size_t kKeepBytes = size_t(1) << 20;  // a giant piece must not hold its memory for good
  if (symbols.capacity() * sizeof symbols[0] > kKeepBytes) symbols = {};
  if (heap.capacity() * sizeof heap[0] > kKeepBytes) heap = {};
}

}  // namespace dw
