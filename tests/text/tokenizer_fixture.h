// Reads the files tools/oracle/make_tokenizer_fixtures.py writes; the format stands there.
#pragma once

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace dw::fixture {

inline std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'x': {
        int byte = 0;
        std::from_chars(text.data() + i + 1, text.data() + std::min(i + 3, text.size()), byte, 16);
        out += char(byte);
        i += 2;
        break;
      }
      default:
        out += text[i];
    }
  }
  return out;
}

inline std::vector<std::string_view> split_tabs(std::string_view line) {
  std::vector<std::string_view> fields;
  while (true) {
    const size_t tab = line.find('\t');
    fields.push_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return fields;
    line.remove_prefix(tab + 1);
  }
}

inline std::vector<int32_t> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    int32_t id = -1;
    at = std::from_chars(at, end, id).ptr + 1;
    ids.push_back(id);
  }
  return ids;
}

// No tokens if the file cannot be read.
inline VocabularyData read_vocabulary(const std::string& folder, const std::string& pre) {
  VocabularyData data;
  data.pre = pre;
  for (const std::string& line : read_lines(folder + "/vocabulary.txt")) {
    if (line.starts_with('M')) {
      data.merges.push_back(line.substr(1));
    } else {
      data.types.push_back(line[1] - '0');
      data.tokens.push_back(unescape(std::string_view(line).substr(3)));
    }
  }
  return data;
}

}  // namespace dw::fixture
