// The tokenizer of a GGUF file: reads tokenizer.ggml.* into what the text room's Tokenizer is made from.
#pragma once

#include "base/expected.h"
#include "gguf/file.h"
#include "text/tokenizer.h"

namespace dw {

// Errors: no tokenizer in the file, a model other than byte-level BPE (`gpt2`), a key of the wrong type.
// What the values mean is checked by Tokenizer::create.
Expected<VocabularyData> read_vocabulary(const gguf::File& file);

}  // namespace dw
