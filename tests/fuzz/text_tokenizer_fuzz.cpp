// Any text and any ids through the tokenizer: the round trip is lossless, what is streamed is valid UTF-8 and
// the same in whatever steps. Input: one byte of switches, then text.
#include "text_fuzz_common.h"

namespace {

using dw::Tokenizer;
using namespace dw::fuzz;

const Tokenizer& good_tokenizer(unsigned which) {
  static const Tokenizer tokenizers[] = {Tokenizer::create(good_vocabulary("qwen2")).value(),
                                         Tokenizer::create(good_vocabulary("qwen35")).value(),
                                         Tokenizer::create(good_vocabulary("llama-bpe")).value(),
                                         Tokenizer::create(good_vocabulary("gpt-2")).value()};
  return tokenizers[which % 4];
}

void check_normalization(std::string_view text) {
  static const dw::UnicodeData unicode;
  std::string once, twice;
  unicode.append_nfc(text, once);
  unicode.append_nfc(once, twice);
  DW_CHECK(once == twice, "NFC is not idempotent");
  DW_CHECK(is_valid_utf8(once) == is_valid_utf8(text), "NFC made or mended broken UTF-8");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const unsigned switches = bytes[0];
  std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const Tokenizer& tokenizer = good_tokenizer(switches);
  check_text(tokenizer, input, (switches & 4) != 0);
  check_normalization(input);
  std::vector<int32_t> ids;
  for (const char c : input)
    ids.push_back((static_cast<unsigned char>(c) + int32_t(switches >> 3) * 2) % tokenizer.size());
  check_stream(tokenizer, ids, (switches & 8) != 0);
  return 0;
}
