// Whole files of any format, packed ones included: found by content, read or refused with a sentence.
#include "profile/ingest/ingest.h"
#include "profile_ingest_common.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto trace = dw::profile::read_trace_bytes({reinterpret_cast<const char*>(data), size}, "input");
  if (trace) {
    dw::fuzz::check_trace(*trace);
  } else if (trace.error().message.find("input") == std::string::npos) {
    std::abort();  // every error names the file
  }
  return 0;
}
