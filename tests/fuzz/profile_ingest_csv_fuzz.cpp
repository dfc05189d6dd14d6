// The CSV reader over any bytes: no crash, no hang, and the summary's figures agree with each other.
#include "profile_ingest_common.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dw::fuzz::check_reader(dw::profile::read_csv, data, size);
  return 0;
}
