// Thousands of random admissions, cancellations, snapshots and restores against one engine: every greedy text
// must be what its prompt gives alone. Shared by the tests of the CPU and of the GPU.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"
#include "engine/engine.h"

namespace dw::test {

class Admissions {
 public:
  Admissions(EngineOptions options, uint64_t seed) : random_(seed) {
    options.max_sessions = kSessions;
    options.context_tokens = kContext;
    options.delta_chunk = 0;  // however a prompt is cut, the same bits
    auto made = Engine::create(options);
    if (!made) throw std::runtime_error(made.error().message);
    engine_ = std::move(*made);
    for (int i = 0; i < kTexts; ++i) texts_.push_back(text_alone());
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      SCOPED_TRACE("operation " + std::to_string(i));
      one_operation();
    }
    ASSERT_TRUE(engine_->run());
    for (Guest& guest : guests_) settle(guest);
    expect_nothing_leaked();
  }
  int64_t finished() const { return finished_; }
  int64_t cancelled() const { return cancelled_; }
  int64_t restored() const { return restored_; }

 private:
  static constexpr int kSessions = 6, kContext = 96, kTexts = 24, kPrompt = 20, kLongest = 40;

  struct Text {
    std::vector<int32_t> tokens;  // prompt, then the greedy continuation
    int prompt = 0;
  };
  struct Guest {
    SessionId id = -1;
    int text = -1, position = 0;  // of the text: what was said when the generation began
    std::vector<int32_t> said;
    FinishReason reason = FinishReason::kNone;
    bool active = false, cancelled = false;
    std::optional<Engine::Snapshot> snapshot;
    int snapshot_text = -1;
  };

  GenerateOptions greedy(int count) const {
    GenerateOptions o;
    o.sampling.temperature = 0;
    o.max_tokens = count;
    o.ignore_end = true;
    return o;
  }

  Text text_alone() {
    Text text;
    text.prompt = 1 + int(random_.below(kPrompt));
    for (int i = 0; i < text.prompt; ++i) text.tokens.push_back(int32_t(random_.below(256)));
    auto id = engine_->open_session();
    EXPECT_TRUE(id && engine_->set_prompt(*id, text.tokens));
    EXPECT_TRUE(engine_->generate(*id, greedy(kLongest), [&text](const Generated& g) {
      if (g.token >= 0) text.tokens.push_back(g.token);
      return true;
    }));
    EXPECT_TRUE(engine_->run());
    engine_->close_session(*id);
    return text;
  }

  void one_operation() {
    for (int64_t steps = random_.below(4); steps > 0; --steps) ASSERT_TRUE(engine_->step());
    switch (random_.below(6)) {
      case 0:
        admit();
        break;
      case 1:
        leave();
        break;
      case 2:
        cancel();
        break;
      case 3:
        take_snapshot();
        break;
      case 4:
        go_back();
        break;
      default:
        begin();
        break;
    }
    for (Guest& guest : guests_) settle(guest);
  }

  Guest* any_guest(bool active) {
    std::vector<Guest*> fitting;
    for (Guest& guest : guests_)
      if (guest.active == active) fitting.push_back(&guest);
    return fitting.empty() ? nullptr : fitting[size_t(random_.below(int64_t(fitting.size())))];
  }

  void admit() {
    auto id = engine_->open_session();
    ASSERT_EQ(id.has_value(), guests_.size() < kSessions);
    if (!id) return;
    guests_.emplace_back();
    guests_.back().id = *id;
    begin_text(guests_.back());
  }

  void leave() {
    if (guests_.empty()) return;
    const auto at = guests_.begin() + random_.below(int64_t(guests_.size()));
    engine_->close_session(at->id);  // whatever it is doing
    guests_.erase(at);
  }

  void cancel() {
    Guest* guest = any_guest(true);
    if (guest == nullptr) return;
    engine_->cancel(guest->id);
    guest->cancelled = true;
    ++cancelled_;
  }

  void take_snapshot() {
    Guest* guest = any_guest(false);
    if (guest == nullptr || guest->text < 0 || engine_->tokens(guest->id).empty()) return;
    guest->snapshot = engine_->snapshot(guest->id);
    guest->snapshot_text = guest->text;
  }

  // Back to the snapshot where the session's text still begins with it, and on from there.
  void go_back() {
    Guest* guest = any_guest(false);
    if (guest == nullptr || !guest->snapshot || guest->snapshot->logits.empty()) return;
    const std::vector<int32_t>& then = guest->snapshot->tokens;
    const std::vector<int32_t>& now = engine_->tokens(guest->id);
    if (then.size() > now.size() || !std::equal(then.begin(), then.end(), now.begin())) return;
    ASSERT_TRUE(engine_->restore(guest->id, *guest->snapshot));
    guest->text = guest->snapshot_text;
    start(*guest, int(then.size()));
    ++restored_;
  }

  void begin() {
    if (Guest* guest = any_guest(false)) begin_text(*guest);
  }

  // A text from its prompt or from somewhere in its continuation.
  void begin_text(Guest& guest) {
    guest.text = int(random_.below(kTexts));
    const Text& text = texts_[size_t(guest.text)];
    const int position = text.prompt + int(random_.below(kLongest / 2));
    ASSERT_TRUE(engine_->set_prompt(guest.id, {text.tokens.begin(), text.tokens.begin() + position}));
    start(guest, position);
  }

  void start(Guest& guest, int position) {
    const int left = int(texts_[size_t(guest.text)].tokens.size()) - position;
    ASSERT_GE(left, 0);
    if (left == 0) return;
    guest.position = position;
    guest.said.clear();
    guest.reason = FinishReason::kNone;
    guest.active = true, guest.cancelled = false;
    const SessionId id = guest.id;
    ASSERT_TRUE(engine_->generate(id, greedy(1 + int(random_.below(left))), [this, id](const Generated& g) {
      for (Guest& other : guests_) {
        if (other.id != id) continue;
        if (g.token >= 0) other.said.push_back(g.token);
        other.reason = g.finish;
      }
      return true;
    }));
  }

  // What was said is what the text says alone.
  void settle(Guest& guest) {
    if (!guest.active) return;
    const Text& text = texts_[size_t(guest.text)];
    ASSERT_LE(guest.said.size(), text.tokens.size() - size_t(guest.position));
    ASSERT_TRUE(std::equal(guest.said.begin(), guest.said.end(), text.tokens.begin() + guest.position))
        << "session " << guest.id << ", text " << guest.text << " from " << guest.position;
    if (guest.reason == FinishReason::kNone) return;
    ASSERT_EQ(guest.reason, guest.cancelled && guest.reason != FinishReason::kLength
                                ? FinishReason::kCancelled
                                : FinishReason::kLength);
    guest.active = false;
    ++finished_;
  }

  // Every slot and every page can be had again.
  void expect_nothing_leaked() {
    for (Guest& guest : guests_) engine_->close_session(guest.id);
    guests_.clear();
    std::vector<int32_t> longest;
    for (int i = 0; i < kContext - 1; ++i) longest.push_back(int32_t(random_.below(256)));
    for (int i = 0; i < kSessions; ++i) {
      auto id = engine_->open_session();
      ASSERT_TRUE(id.has_value());
      ASSERT_TRUE(engine_->set_prompt(*id, longest));
    }
    ASSERT_FALSE(engine_->open_session().has_value());
    ASSERT_TRUE(engine_->run());
  }

  Random random_;
  std::unique_ptr<Engine> engine_;
  std::vector<Text> texts_;
  std::vector<Guest> guests_;
  int64_t finished_ = 0, cancelled_ = 0, restored_ = 0;
};

}  // namespace dw::test
