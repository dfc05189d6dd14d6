// Splits a row of CSV as profilers write it: quotes inside a quoted field are often not escaped and names
// hold commas, quoted or not. So a quoted field ends at a quote that a comma or the line's end follows, and
// surplus fields are taken as parts of the name.
#pragma once

#include <string_view>
#include <vector>

namespace dw::profile {

class CsvRow {
 public:
  // name_column: the field that takes surplus ones. False: fewer fields than columns.
  bool split(std::string_view line, size_t columns, size_t name_column);
  // Fields without their outer quotes.
  std::string_view operator[](size_t column) const { return fields_[column]; }
  size_t size() const { return fields_.size(); }
  // As many fields as the line has.
  void split_all(std::string_view line);

 private:
  bool split_quoted(std::string_view line);
  void split_plain(std::string_view line);
  std::vector<std::string_view> raw_;     // with quotes
  std::vector<std::string_view> fields_;  // without
};

}  // namespace dw::profile
