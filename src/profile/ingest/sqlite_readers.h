// The SQLite formats, told apart by their tables. Columns are asked for by name and taken where they exist.
#pragma once

#include <unordered_map>

#include "profile/ingest/builder.h"
#include "profile/ingest/sqlite_file.h"

namespace dw::profile {

// A SELECT put together from the columns that a table has.
class ColumnList {
 public:
  ColumnList(SqliteFile& file, const std::string& table) : names_(file.columns(table)) {}
  bool has(std::string_view name) const;
  // The index of the result column: the first of `names` that the table has, as `prefix` + name; else NULL.
  int add(std::initializer_list<std::string_view> names, std::string_view prefix = "");
  int add_expression(std::string_view expression);
  const std::string& text() const { return text_; }

 private:
  std::vector<std::string> names_;
  std::string text_;
  int count_ = 0;
};

void read_nsys(SqliteFile& file, TraceBuilder& builder);
void read_rpd(SqliteFile& file, TraceBuilder& builder);
void read_rocpd(SqliteFile& file, TraceBuilder& builder);

}  // namespace dw::profile
