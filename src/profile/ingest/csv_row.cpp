#include "profile/ingest/csv_row.h"

#include <cstring>

namespace dw::profile {
namespace {

std::string_view unquoted(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

}  // namespace

bool CsvRow::split_quoted(std::string_view line) {
  raw_.clear();
  const char* const base = line.data();
  size_t at = 0;
  while (true) {
    size_t end;
    if (at < line.size() && line[at] == '"') {
      size_t quote = line.find('"', at + 1);
      while (quote != std::string_view::npos && quote + 1 < line.size() && line[quote + 1] != ',')
        quote = line.find('"', quote + 1);
      if (quote == std::string_view::npos) return false;
      end = quote + 1;
    } else {
      const void* comma = at < line.size() ? std::memchr(base + at, ',', line.size() - at) : nullptr;
      end = comma == nullptr ? line.size() : size_t(static_cast<const char*>(comma) - base);
    }
    raw_.push_back(line.substr(at, end - at));
    if (end >= line.size()) return true;
    at = end + 1;
  }
}

void CsvRow::split_plain(std::string_view line) {
  raw_.clear();
  size_t at = 0;
  while (true) {
    const size_t comma = line.find(',', at);
    if (comma == std::string_view::npos) break;
    raw_.push_back(line.substr(at, comma - at));
    at = comma + 1;
  }
  raw_.push_back(line.substr(at));
}

void CsvRow::split_all(std::string_view line) {
  if (!split_quoted(line)) split_plain(line);
  fields_.clear();
  for (const std::string_view field : raw_) fields_.push_back(unquoted(field));
}

bool CsvRow::split(std::string_view line, size_t columns, size_t name_column) {
  if (!split_quoted(line) || raw_.size() < columns) split_plain(line);
  if (raw_.size() < columns) return false;
  if (raw_.size() > columns && raw_.back().empty()) raw_.pop_back();  // a comma after the last field
  const size_t surplus = raw_.size() - columns;
  fields_.clear();
  for (size_t i = 0; i < raw_.size(); ++i) {
    if (i == name_column && surplus > 0) {
      const std::string_view last = raw_[i + surplus];
      fields_.push_back(unquoted({raw_[i].data(), size_t(last.data() + last.size() - raw_[i].data())}));
      i += surplus;
    } else {
      fields_.push_back(unquoted(raw_[i]));
    }
  }
  return true;
}

}  // namespace dw::profile
