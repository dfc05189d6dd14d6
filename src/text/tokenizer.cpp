#include "text/tokenizer.h"

#include <mutex>

#include "base/units.h"
#include "text/pretokenizer.h"
#include "text/vocabulary.h"

namespace dw {
namespace {

constexpr size_t kLongestText = size_t(1)
                                << 30;  // NFC makes text at most 3 times longer: positions fit 32 bits

// A call's work space. Calls at the same time have one each; they are kept for the next call.
struct Scratch {
  BpeScratch bpe;
  std::string normalized;
};

class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto scratch = std::move(idle_.back());
        idle_.pop_back();
        return scratch;
      }
    }
    return std::make_unique<Scratch>();
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

struct Tokenizer::State {
  State(std::unique_ptr<Vocabulary> checked_vocabulary, MergeTable merges, Pretokenizer pre,
        std::shared_ptr<const UnicodeData> unicode_data)
      : vocabulary(std::move(checked_vocabulary)),
        bpe(std::move(merges), vocabulary->byte_ids),
        pretokenizer(std::move(pre)),
        unicode(std::move(unicode_data)) {
    if (!pretokenizer.ignores_merges()) return;
    for (int32_t id = 0; id < int32_t(vocabulary->types.size()); ++id) {
      if (vocabulary->types[size_t(id)] == TokenType::kNormal) whole_pieces[vocabulary->token_bytes(id)] = id;
    }
  }

  void encode_plain(std::string_view text, bool normalize, Scratch& work, std::vector<int32_t>& out) const;

  std::unique_ptr<Vocabulary> vocabulary;
  Bpe bpe;
  Pretokenizer pretokenizer;
  std::shared_ptr<const UnicodeData> unicode;
  std::unordered_map<std::string_view, int32_t> whole_pieces;  // by bytes; only if merges are ignored
  mutable ScratchPool pool;
};

// Text without special tokens.
void Tokenizer::State::encode_plain(std::string_view text, bool normalize, Scratch& work,
                                    std::vector<int32_t>& out) const {
  if (normalize && pretokenizer.normalizes() && !unicode->is_surely_nfc(text)) {
    work.normalized.clear();
    unicode->append_nfc(text, work.normalized);
    text = work.normalized;
  }
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, pretokenizer.next(text));
    text.remove_prefix(piece.size());
    if (!whole_pieces.empty()) {
      if (const auto found = whole_pieces.find(piece); found != whole_pieces.end()) {
        out.push_back(found->second);
        continue;
      }
    }
    bpe.encode(piece, work.bpe, out);
  }
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Expected<Tokenizer> Tokenizer::create(VocabularyData data) {
  auto unicode = std::make_shared<const UnicodeData>();
  auto pretokenizer = Pretokenizer::create(data.pre, unicode);
  if (!pretokenizer) return pretokenizer.error();
  auto vocabulary = build_vocabulary(std::move(data));
  if (!vocabulary) return vocabulary.error();
  auto merges = build_merges(**vocabulary);
  if (!merges) return merges.error();
  return Tokenizer(std::make_unique<State>(std::move(*vocabulary), std::move(*merges),
                                           std::move(*pretokenizer), std::move(unicode)));
}

Expected<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > kLongestText) {
    return make_error("the text has ", format_bytes(text.size()), ", more than the ",
                      format_bytes(kLongestText), " the tokenizer takes at once");
  }
  const Vocabulary& vocabulary = *state_->vocabulary;
  const SpecialTokens& special = options.parse_special ? vocabulary.all_special : vocabulary.user_defined;
  std::unique_ptr<Scratch> work = state_->pool.take();
  std::vector<int32_t> out;
  out.reserve(text.size() / 4 + 4);
  if (options.add_special && vocabulary.data.add_bos) out.push_back(vocabulary.data.bos);
  size_t done = 0;
  for (auto match = special.find(text, 0); match.size_bytes != 0; match = special.find(text, done)) {
    state_->encode_plain(text.substr(done, match.offset - done), options.normalize, *work, out);
    out.push_back(match.id);
    done = match.offset + match.size_bytes;
  }
  state_->encode_plain(text.substr(done), options.normalize, *work, out);
  if (options.add_special && vocabulary.data.add_eos) out.push_back(vocabulary.data.eos);
  state_->pool.give_back(std::move(work));
  return out;
}

Expected<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool show_special) const {
  std::string out;
  for (const int32_t id : ids) {
    if (!contains(id)) {
      return make_error("token id ", id, " is outside the vocabulary, whose ids go from 0 to ", size() - 1);
    }
    if (show_special || !is_special(id)) out += token_bytes(id);
  }
  return out;
}

int32_t Tokenizer::size() const {
  return int32_t(state_->vocabulary->types.size());
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  DW_CHECK(contains(id), "token id outside the vocabulary");
  return state_->vocabulary->token_bytes(id);
}

TokenType Tokenizer::token_type(int32_t id) const {
  DW_CHECK(contains(id), "token id outside the vocabulary");
  return state_->vocabulary->types[size_t(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  const TokenType type = token_type(id);
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
  DW_CHECK(contains(id), "token id outside the vocabulary");
  return state_->vocabulary->ends_generation[size_t(id)];
}

std::optional<int32_t> Tokenizer::find(std::string_view text) const {
  const auto found = state_->vocabulary->ids.find(text);
  if (found == state_->vocabulary->ids.end()) return std::nullopt;
  return found->second;
}

namespace {
std::optional<int32_t> id_or_none(int32_t id) {
  return id < 0 ? std::nullopt : std::optional(id);
}
}  // namespace

std::optional<int32_t> Tokenizer::bos() const {
  return id_or_none(state_->vocabulary->data.bos);
}
std::optional<int32_t> Tokenizer::eos() const {
  return id_or_none(state_->vocabulary->data.eos);
}
std::optional<int32_t> Tokenizer::eot() const {
  return id_or_none(state_->vocabulary->data.eot);
}
std::optional<int32_t> Tokenizer::pad() const {
  return id_or_none(state_->vocabulary->data.pad);
}

}  // namespace dw
