// The reader of library logs over any bytes: no crash, no hang, and the summary's figures agree with each
// other.
#include "profile_ingest_common.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dw::fuzz::check_reader(dw::profile::read_library_log, data, size);
  return 0;
}
