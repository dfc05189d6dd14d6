// A SQLite file of unknown origin: opened read-only and immutable, its schema not trusted, its work limited.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"

struct sqlite3;
struct sqlite3_stmt;

namespace dw::profile {

class SqliteFile;

class SqliteRows {
 public:
  bool next();                        // false: no more rows, or an error (then SqliteFile::problem() has it)
  int64_t integer(int column) const;  // 0 for NULL
  bool is_null(int column) const;
  bool is_text(int column) const;
  std::string_view text(int column) const;  // valid until the next call for this column

 private:
  friend class SqliteFile;
  struct Close {
    void operator()(sqlite3_stmt* statement) const;
  };
  SqliteFile* file_ = nullptr;
  std::unique_ptr<sqlite3_stmt, Close> statement_;
};

class SqliteFile {
 public:
  // Errors: cannot be opened, or its schema cannot be read.
  static Expected<std::unique_ptr<SqliteFile>> open(const std::string& path);
  ~SqliteFile();

  std::vector<std::string> tables() const;  // and views
  bool has(std::string_view table) const;
  std::vector<std::string> columns(const std::string& table);
  // No rows when the statement is refused; problem() says why.
  SqliteRows query(const std::string& sql);
  // The first error of a query: "database disk image is malformed". Cleared by taking it.
  std::string take_problem();

 private:
  friend class SqliteRows;
  SqliteFile() = default;
  void note_problem();
  bool read_schema();
  sqlite3* database_ = nullptr;
  std::vector<std::string> tables_;
  std::string problem_;
  uint64_t steps_ = 0;  // virtual machine steps, in thousands, since the last row
};

std::string quoted_name(std::string_view name);  // as SQL wants it

}  // namespace dw::profile
