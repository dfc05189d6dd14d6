#include "profile/ingest/sqlite_file.h"

#include <sqlite3.h>

#include <algorithm>

namespace dw::profile {
namespace {

constexpr uint64_t kStepsPerCheck = 1000;
// Between two rows: enough to index tens of millions of rows (seconds), not enough for a view that never
// ends.
constexpr uint64_t kMostChecks = 400'000;

int check_steps(void* steps) {
  return ++*static_cast<uint64_t*>(steps) > kMostChecks ? 1 : 0;
}

// The path as a URI, so that "immutable" can be said.
std::string uri_of(const std::string& path) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string uri = "file:";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '/' || c == '.' || c == '_' || c == '-';
    if (plain) {
      uri += c;
    } else {
      uri += '%';
      uri += kHex[uint8_t(c) >> 4];
      uri += kHex[uint8_t(c) & 15];
    }
  }
  return uri + "?mode=ro&immutable=1";
}

}  // namespace

void SqliteRows::Close::operator()(sqlite3_stmt* statement) const {
  ::sqlite3_finalize(statement);
}

bool SqliteRows::next() {
  if (!statement_) return false;
  file_->steps_ = 0;
  const int status = ::sqlite3_step(statement_.get());
  if (status == SQLITE_ROW) return true;
  if (status != SQLITE_DONE) file_->note_problem();
  statement_.reset();
  return false;
}

int64_t SqliteRows::integer(int column) const {
  return ::sqlite3_column_int64(statement_.get(), column);
}

bool SqliteRows::is_null(int column) const {
  return ::sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

bool SqliteRows::is_text(int column) const {
  return ::sqlite3_column_type(statement_.get(), column) == SQLITE_TEXT;
}

std::string_view SqliteRows::text(int column) const {
  const unsigned char* text = ::sqlite3_column_text(statement_.get(), column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text), size_t(::sqlite3_column_bytes(statement_.get(), column))};
}

SqliteFile::~SqliteFile() {
  ::sqlite3_close(database_);
}

Expected<std::unique_ptr<SqliteFile>> SqliteFile::open(const std::string& path) {
  std::unique_ptr<SqliteFile> file(new SqliteFile);
  const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
  if (::sqlite3_open_v2(uri_of(path).c_str(), &file->database_, flags, nullptr) != SQLITE_OK)
    return make_error("cannot open ", path, " as SQLite: ", ::sqlite3_errmsg(file->database_));
  sqlite3* const db = file->database_;
  ::sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  ::sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  ::sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 64 << 20);
  ::sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, 1 << 20);
  ::sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
  ::sqlite3_limit(db, SQLITE_LIMIT_EXPR_DEPTH, 200);
  ::sqlite3_progress_handler(db, int(kStepsPerCheck), check_steps, &file->steps_);
  ::sqlite3_exec(db, "PRAGMA cell_size_check=ON; PRAGMA cache_size=-32768; PRAGMA temp_store=FILE", nullptr,
                 nullptr, nullptr);
  if (!file->read_schema()) return make_error("cannot read ", path, " as SQLite: ", file->take_problem());
  return file;
}

bool SqliteFile::read_schema() {
  SqliteRows rows = query("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') LIMIT 10000");
  while (rows.next()) tables_.emplace_back(rows.text(0));
  return problem_.empty();
}

std::vector<std::string> SqliteFile::tables() const {
  return tables_;
}

bool SqliteFile::has(std::string_view table) const {
  return std::find(tables_.begin(), tables_.end(), table) != tables_.end();
}

std::vector<std::string> SqliteFile::columns(const std::string& table) {
  std::vector<std::string> names;
  SqliteRows rows = query("PRAGMA table_info(" + quoted_name(table) + ")");
  while (rows.next()) names.emplace_back(rows.text(1));
  return names;
}

SqliteRows SqliteFile::query(const std::string& sql) {
  SqliteRows rows;
  rows.file_ = this;
  steps_ = 0;
  sqlite3_stmt* statement = nullptr;
  if (::sqlite3_prepare_v2(database_, sql.c_str(), int(sql.size()), &statement, nullptr) != SQLITE_OK)
    note_problem();
  rows.statement_.reset(statement);
  return rows;
}

void SqliteFile::note_problem() {
  if (problem_.empty()) problem_ = ::sqlite3_errmsg(database_);
}

std::string SqliteFile::take_problem() {
  return std::exchange(problem_, {});
}

std::string quoted_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

}  // namespace dw::profile
