// A small byte-level BPE vocabulary for synthetic models: the 256 bytes, merges for common English words,
// filler tokens up to the size asked for, and the ChatML special tokens. Readers of GGUF files accept it like
// a real one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/expected.h"
#include "gguf/writer.h"

namespace dw {

struct SynthVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // 1 normal, 3 control, 5 unused
  std::vector<std::string> merges;   // "left right", by rank
  uint32_t end_of_text = 0, message_start = 0, message_end = 0;
};

inline constexpr int32_t kLeastSynthVocabulary = 300;

// size >= kLeastSynthVocabulary; Error otherwise.
Expected<SynthVocabulary> make_synth_vocabulary(int32_t size);
void write_vocabulary(gguf::Writer& writer, const SynthVocabulary& vocabulary);

}  // namespace dw
