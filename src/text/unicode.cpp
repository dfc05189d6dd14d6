#include "text/unicode.h"

#include <algorithm>
#include <cstring>

#include "text/unicode_tables.h"

namespace dw {
namespace {

// Hangul syllables compose by arithmetic (Unicode 3.12).
constexpr char32_t kSyllableBase = 0xac00, kLeadBase = 0x1100, kVowelBase = 0x1161, kTrailBase = 0x11a7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;
constexpr uint32_t kSyllableCount = kLeadCount * kVowelCount * kTrailCount;

bool in_range(char32_t c, char32_t first, uint32_t count) {
  return c - first < count;
}

struct LeadByte {
  uint32_t size_bytes;                    // 0: starts nothing
  unsigned char low = 0x80, high = 0xbf;  // bounds of the second byte (Unicode table 3-7)
};

LeadByte inspect_lead(unsigned char lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xc2 || lead > 0xf4) return {0};
  if (lead < 0xe0) return {2};
  if (lead == 0xe0) return {3, 0xa0, 0xbf};
  if (lead == 0xed) return {3, 0x80, 0x9f};
  if (lead < 0xf0) return {3};
  if (lead == 0xf0) return {4, 0x90, 0xbf};
  if (lead == 0xf4) return {4, 0x80, 0x8f};
  return {4};
}

}  // namespace

Utf8Status inspect_utf8(std::string_view text) {
  using Kind = Utf8Status::Kind;
  const LeadByte lead = inspect_lead(static_cast<unsigned char>(text[0]));
  if (lead.size_bytes == 0) return {Kind::kIllFormed, 1};
  for (uint32_t i = 1; i < lead.size_bytes; ++i) {
    if (i == text.size()) return {Kind::kIncomplete, i};
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xbf;
    if (byte < low || byte > high) return {Kind::kIllFormed, i};
  }
  return {Kind::kComplete, lead.size_bytes};
}

Utf8Character decode_multibyte_utf8(std::string_view text) {
  const Utf8Status status = inspect_utf8(text);
  if (status.kind != Utf8Status::Kind::kComplete) return {kInvalidCodePoint, 1};
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (status.size_bytes == 1) return {byte(0), 1};
  char32_t c = byte(0) & (0x7fu >> status.size_bytes);
  for (uint32_t i = 1; i < status.size_bytes; ++i) c = c << 6 | (byte(i) & 0x3fu);
  return {c, status.size_bytes};
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xc0 | c >> 6);
    out += char(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += char(0xe0 | c >> 12);
    out += char(0x80 | (c >> 6 & 0x3f));
    out += char(0x80 | (c & 0x3f));
  } else {
    out += char(0xf0 | c >> 18);
    out += char(0x80 | (c >> 12 & 0x3f));
    out += char(0x80 | (c >> 6 & 0x3f));
    out += char(0x80 | (c & 0x3f));
  }
}

UnicodeData::UnicodeData() : table_(size_t(kInvalidCodePoint) + 1) {
  namespace tables = unicode_tables;
  for (size_t i = 0; i < tables::kClasses.size(); i += 2) {
    const uint32_t count = tables::kClasses[i + 1] >> 3;
    std::fill_n(table_.begin() + tables::kClasses[i], count, uint8_t(tables::kClasses[i + 1] & 7));
  }
  const auto mark = [&](uint32_t first, uint32_t count) {
    for (uint32_t c = first; c < first + count; ++c) table_[c] |= 8;
  };
  for (size_t i = 0; i < tables::kCombiningClasses.size(); i += 2) {
    mark(tables::kCombiningClasses[i], tables::kCombiningClasses[i + 1] >> 8);
  }
  for (size_t i = 0; i < tables::kCompositions.size(); i += 3) {
    const uint32_t composed = tables::kCompositions[i], first = tables::kCompositions[i + 1];
    const uint32_t second = tables::kCompositions[i + 2];
    pairs_.push_back({uint64_t(first) << 32 | second, composed});
    decompositions_.push_back({composed, first, second});
    mark(second, 1);
  }
  for (size_t i = 0; i < tables::kOneWayDecompositions.size(); i += 3) {
    const auto row = tables::kOneWayDecompositions.subspan(i, 3);
    decompositions_.push_back({row[0], row[1], row[2]});
    mark(row[0], 1);
  }
  mark(kVowelBase, kVowelCount);
  mark(kTrailBase + 1, kTrailCount - 1);
  std::ranges::sort(pairs_, {}, &Pair::key);
  std::ranges::sort(decompositions_, {}, &Decomposition::code_point);
}

// Finds the next sensitive character from `from` on and returns its offset, or text.size(). segment_start is
// where a segment to normalise would begin: the last character before it that is not sensitive.
size_t UnicodeData::find_sensitive(std::string_view text, size_t from, size_t& segment_start) const {
  size_t at = from;
  segment_start = from;
  while (at < text.size()) {
    uint64_t word;
    if (at + sizeof word <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080ull) == 0) {
        at += sizeof word;
        segment_start = at - 1;
        continue;
      }
    }
    const Utf8Character character = decode_utf8(text.substr(at));
    if (is_sensitive(character.code_point)) return at;
    segment_start = character.code_point == kInvalidCodePoint ? at + 1 : at;
    at += character.size_bytes;
  }
  return at;
}

bool UnicodeData::is_surely_nfc(std::string_view text) const {
  size_t segment_start = 0;
  return find_sensitive(text, 0, segment_start) == text.size();
}

void UnicodeData::append_nfc(std::string_view text, std::string& out) const {
  size_t done = 0;
  while (done < text.size()) {
    size_t segment_start = 0;
    size_t at = find_sensitive(text, done, segment_start);
    if (at == text.size()) {
      out += text.substr(done);
      return;
    }
    out += text.substr(done, segment_start - done);
    while (at < text.size()) {
      const Utf8Character character = decode_utf8(text.substr(at));
      if (!is_sensitive(character.code_point)) break;
      at += character.size_bytes;
    }
    append_nfc_segment(text.substr(segment_start, at - segment_start), out);
    done = at;
  }
}

uint8_t UnicodeData::combining_class(char32_t c) const {
  const auto& table = unicode_tables::kCombiningClasses;
  size_t low = 0, high = table.size() / 2;  // the last run that starts at or before c is low - 1
  while (low < high) {
    const size_t middle = (low + high) / 2;
    (table[2 * middle] <= c ? low : high) = table[2 * middle] <= c ? middle + 1 : middle;
  }
  if (low == 0) return 0;
  const uint32_t run = table[2 * low - 1];
  return c - table[2 * low - 2] < run >> 8 ? uint8_t(run & 0xff) : 0;
}

void UnicodeData::decompose(char32_t c, std::vector<Ordered>& out) const {
  if (in_range(c, kSyllableBase, kSyllableCount)) {
    const uint32_t index = c - kSyllableBase;
    out.push_back({kLeadBase + index / (kVowelCount * kTrailCount), 0});
    out.push_back({kVowelBase + index % (kVowelCount * kTrailCount) / kTrailCount, 0});
    if (index % kTrailCount != 0) out.push_back({kTrailBase + index % kTrailCount, 0});
    return;
  }
  const auto row = std::ranges::lower_bound(decompositions_, c, {}, &Decomposition::code_point);
  if (row == decompositions_.end() || row->code_point != c) {
    out.push_back({c, combining_class(c)});
    return;
  }
  decompose(row->first, out);  // the tables nest a few levels at most
  if (row->second != 0) decompose(row->second, out);
}

char32_t UnicodeData::compose(char32_t first, char32_t second) const {
  if (in_range(first, kLeadBase, kLeadCount) && in_range(second, kVowelBase, kVowelCount)) {
    return kSyllableBase + ((first - kLeadBase) * kVowelCount + (second - kVowelBase)) * kTrailCount;
  }
  if (in_range(first, kSyllableBase, kSyllableCount) && (first - kSyllableBase) % kTrailCount == 0 &&
      in_range(second, kTrailBase + 1, kTrailCount - 1)) {
    return first + (second - kTrailBase);
  }
  const uint64_t key = uint64_t(first) << 32 | second;
  const auto pair = std::ranges::lower_bound(pairs_, key, {}, &Pair::key);
  return pair != pairs_.end() && pair->key == key ? pair->composed : 0;
}

void UnicodeData::append_nfc_segment(std::string_view segment, std::string& out) const {
  std::vector<Ordered> characters;
  while (!segment.empty()) {
    const Utf8Character character = decode_utf8(segment);
    decompose(character.code_point, characters);
    segment.remove_prefix(character.size_bytes);
  }
  for (auto run = characters.begin(); run != characters.end();) {
    auto end = run + 1;
    if (run->combining != 0) {
      while (end != characters.end() && end->combining != 0) ++end;
      std::stable_sort(run, end, [](Ordered a, Ordered b) { return a.combining < b.combining; });
    }
    run = end;
  }
  constexpr size_t kNone = size_t(-1);
  size_t starter = kNone, kept = 0;
  for (const Ordered character : characters) {
    // A mark is blocked from the starter by a kept character of its own class or higher between the two.
    const bool adjacent = starter != kNone && kept == starter + 1;
    const bool blocked =
        starter == kNone || (!adjacent && characters[kept - 1].combining >= character.combining);
    const char32_t composed = blocked ? 0 : compose(characters[starter].code_point, character.code_point);
    if (composed != 0) {
      characters[starter].code_point = composed;
      continue;
    }
    if (character.combining == 0) starter = kept;
    characters[kept++] = character;
  }
  for (size_t i = 0; i < kept; ++i) append_utf8(characters[i].code_point, out);
}

}  // namespace dw
