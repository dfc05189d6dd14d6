// The readers, one a family of formats. Each fills the builder with what it can read; false: the content is
// not of this family, or holds nothing of a GPU's (then `why` says what it is).
#pragma once

#include <string>

#include "profile/ingest/builder.h"
#include "profile/ingest/input.h"

namespace dw::profile {

bool read_csv(Input& input, TraceBuilder& builder, std::string& why);
bool read_json(Input& input, TraceBuilder& builder, std::string& why);
bool read_perfetto(Input& input, TraceBuilder& builder, std::string& why);
bool read_library_log(Input& input, TraceBuilder& builder, std::string& why);
// Reads the file by itself, as SQLite needs it in place and unpacked.
bool read_sqlite(const std::string& path, TraceBuilder& builder, std::string& why);

}  // namespace dw::profile
