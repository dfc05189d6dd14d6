// Any vocabulary is refused with a sentence, or makes a tokenizer that keeps its promises.
// Input: one byte of switches, changes to a good vocabulary, then text.
#include "text_fuzz_common.h"

namespace {

// Takes bytes from the front of data to change one thing of the vocabulary.
void spoil(dw::VocabularyData& data, std::string_view& input) {
  const auto take = [&]() -> unsigned {
    if (input.empty()) return 0;
    const auto byte = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    return byte;
  };
  const auto take_text = [&] {
    const std::string text(input.substr(0, take() % 9));
    input.remove_prefix(std::min(input.size(), text.size()));
    return text;
  };
  const unsigned what = take();
  const size_t index = take() * 2 + (what >> 7);
  switch (what % 8) {
    case 0:
      data.tokens[index % data.tokens.size()] = take_text();
      break;
    case 1:
      data.types[index % data.types.size()] = int32_t(take() % 8);
      break;
    case 2:
      data.merges[index % data.merges.size()] = take_text();
      break;
    case 3:
      data.bos = int32_t(take()) * 2 - 1;
      break;
    case 4:
      data.merges.push_back(data.tokens[index % data.tokens.size()] + " " + data.tokens[take()]);
      break;
    case 5:
      data.add_bos = !data.add_bos;
      break;
    case 6:
      data.tokens.push_back(take_text());
      data.types.push_back(int32_t(index % 7));
      break;
    default:
      data.tokens.push_back(data.tokens[index % data.tokens.size()] + data.tokens[take()]);
      data.types.push_back(1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const unsigned switches = bytes[0];
  std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const char* const names[] = {"qwen2", "qwen35", "llama-bpe", "gpt-2"};
  dw::VocabularyData data = dw::fuzz::good_vocabulary(names[switches % 4]);
  for (unsigned i = 0; i <= (switches >> 4 & 3); ++i) spoil(data, input);
  const auto tokenizer = dw::Tokenizer::create(std::move(data));
  if (tokenizer) {
    dw::fuzz::check_text(*tokenizer, input, (switches & 4) != 0);
  } else {
    const std::string& message = tokenizer.error().message;
    DW_CHECK(!message.empty() && dw::fuzz::is_valid_utf8(message), "bad error message");
  }
  return 0;
}
