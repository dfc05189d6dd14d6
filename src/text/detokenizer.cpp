#include "text/detokenizer.h"

#include "text/unicode.h"

namespace dw {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

Expected<std::string> Detokenizer::append(int32_t id) {
  if (!tokenizer_->contains(id)) {
    return make_error("token id ", id, " is outside the vocabulary, whose ids go from 0 to ",
                      tokenizer_->size() - 1);
  }
  if (!show_special_ && tokenizer_->is_special(id)) return std::string();
  pending_ += tokenizer_->token_bytes(id);
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Status status = inspect_utf8(rest);
    if (status.kind == Utf8Status::Kind::kIncomplete) break;
    const bool complete = status.kind == Utf8Status::Kind::kComplete;
    out += complete ? rest.substr(0, status.size_bytes) : kReplacement;
    rest.remove_prefix(status.size_bytes);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return out;
}

std::string Detokenizer::flush() {
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return incomplete ? std::string(kReplacement) : std::string();
}

}  // namespace dw
