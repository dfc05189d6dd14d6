// Reads a GPU trace of any of the profilers in TraceFormat. The format is found by the content; .gz and .zst
// are unpacked on the way. A file that is cut off or damaged gives what could be read before (and around) the
// damage, and says so in Trace::warnings. Errors: the file cannot be opened, is empty, or is none of the
// formats.
#pragma once

#include <string>

#include "base/expected.h"
#include "profile/ingest/trace.h"

namespace dw::profile {

Expected<Trace> read_trace(const std::string& path);
// The same of a file's bytes; SQLite databases are copied to a temporary file.
Expected<Trace> read_trace_bytes(std::string_view bytes, const std::string& name);

}  // namespace dw::profile
