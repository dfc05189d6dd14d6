#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include <unistd.h>

#include <filesystem>

#include "engine/evaluate.h"

namespace dw {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int32_t kContext = 256;

EngineOptions base_options() {
  EngineOptions o;
  o.model_path = DW_TEST_DATA "/model/base.gguf";
  o.cpu.threads = 2;
  o.context_tokens = kContext;
  return o;
}

std::unique_ptr<Engine> make(const EngineOptions& options) {
  auto engine = Engine::create(options);
  EXPECT_TRUE(engine.has_value()) << (engine ? "" : engine.error().message);
  return engine ? std::move(*engine) : nullptr;
}

std::vector<int32_t> tokens_of(uint64_t seed, int count) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(int32_t(random.below(256)));
  return tokens;
}

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Said {
  std::vector<int32_t> tokens;
  std::string text;
  FinishReason reason = FinishReason::kNone;
  int calls_after_end = 0;
};

GenerateOptions greedy(int32_t count) {
  GenerateOptions o;
  o.sampling.temperature = 0;
  o.max_tokens = count;
  o.ignore_end = true;
  return o;
}

void start(Engine& engine, SessionId id, const GenerateOptions& options, Said& said) {
  auto started = engine.generate(id, options, [&said](const Generated& g) {
    if (said.reason != FinishReason::kNone) ++said.calls_after_end;
    if (g.token >= 0) said.tokens.push_back(g.token);
    said.text += g.text;
    said.reason = g.finish;
    return true;
  });
  ASSERT_TRUE(started.has_value()) << started.error().message;
}

Said say(Engine& engine, SessionId id, const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  Said said;
  auto set = engine.set_prompt(id, prompt);
  EXPECT_TRUE(set.has_value()) << (set ? "" : set.error().message);
  start(engine, id, options, said);
  auto done = engine.run();
  EXPECT_TRUE(done.has_value()) << (done ? "" : done.error().message);
  EXPECT_EQ(said.calls_after_end, 0);
  return said;
}

// The logits after the last token of the prompt.
std::vector<float> logits_after(Engine& engine, SessionId id, const std::vector<int32_t>& prompt) {
  auto set = engine.set_prompt(id, prompt);
  EXPECT_TRUE(set.has_value()) << (set ? "" : set.error().message);
  EXPECT_TRUE(engine.run().has_value());
  return engine.snapshot(id).logits;
}

std::vector<std::vector<float>> all_logits(Engine& engine, const std::vector<std::vector<int32_t>>& prompts) {
  std::vector<std::vector<float>> logits(prompts.size());
  std::vector<SessionId> ids;
  for (size_t i = 0; i < prompts.size(); ++i) {
    ids.push_back(*engine.open_session());
    EXPECT_TRUE(engine.set_prompt(ids[i], prompts[i]).has_value());
    EXPECT_TRUE(engine
                    .score(ids[i],
                           [&logits, i](int32_t, std::span<const float> row) {
                             logits[i].insert(logits[i].end(), row.begin(), row.end());
                           })
                    .has_value());
  }
  EXPECT_TRUE(engine.run().has_value());
  for (SessionId id : ids) engine.close_session(id);
  return logits;
}

const std::vector<std::vector<int32_t>> kPrompts = {tokens_of(1, 70), tokens_of(2, 1), tokens_of(3, 130),
                                                    tokens_of(4, 9), tokens_of(5, 64)};

TEST(Engine, SessionsInOneBatchAreBitForBitAsAlone) {
  for (const int32_t chunk : {0, 64}) {
    auto options = base_options();
    options.delta_chunk = chunk;
    options.max_sessions = int32_t(kPrompts.size());
    options.context_tokens = 512;  // so that all rows fit one batch and no prompt is cut
    auto engine = make(options);
    const auto together = all_logits(*engine, kPrompts);
    for (size_t i = 0; i < kPrompts.size(); ++i)
      EXPECT_EQ(all_logits(*engine, {kPrompts[i]})[0], together[i])
          << "sequence " << i << ", chunk " << chunk;
  }
}

// sum (a - b)^2 / sum b^2
double nmse(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double error = 0, power = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    power += double(b[i]) * b[i];
  }
  return error / power;
}
// Cutting a prompt elsewhere runs other attention code: with an fp32 cache and fp32 weights only rounding
// differs.
constexpr double kCutBound = 1e-10;

TEST(Engine, TheSizeOfABatchDoesNotMatterTokenByToken) {
  auto options = base_options();
  options.kv_type = ops::KvType::kF32;
  options.delta_chunk = 0;
  options.max_sessions = int32_t(kPrompts.size());
  const auto whole = all_logits(*make(options), kPrompts);
  for (const int32_t rows : {5, 16, 100}) {
    options.batch_tokens = rows;
    const auto cut = all_logits(*make(options), kPrompts);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_LE(nmse(cut[i], whole[i]), kCutBound) << rows << " rows";
  }
}

TEST(Engine, TheNumberOfThreadsDoesNotMatter) {
  auto options = base_options();
  options.max_sessions = int32_t(kPrompts.size());
  const auto two = all_logits(*make(options), kPrompts);
  for (const int threads : {1, 3}) {
    options.cpu.threads = threads;
    EXPECT_EQ(all_logits(*make(options), kPrompts), two) << threads << " threads";
  }
}

TEST(Engine, ConcurrentGenerationsSayWhatTheySayAlone) {
  auto options = base_options();
  options.max_sessions = int32_t(kPrompts.size());
  auto engine = make(options);
  GenerateOptions drawn = greedy(20);
  drawn.sampling.temperature = 1;
  std::vector<Said> alone, together(kPrompts.size());
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    drawn.sampling.seed = i;
    const SessionId id = *engine->open_session();
    alone.push_back(say(*engine, id, kPrompts[i], drawn));
    engine->close_session(id);
  }
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    drawn.sampling.seed = i;
    const SessionId id = *engine->open_session();
    ASSERT_TRUE(engine->set_prompt(id, kPrompts[i]).has_value());
    start(*engine, id, drawn, together[i]);
    ASSERT_TRUE(engine->step().has_value());  // the others begin while these run
  }
  ASSERT_TRUE(engine->run().has_value());
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(together[i].tokens, alone[i].tokens) << "sequence " << i;
    EXPECT_EQ(together[i].text, alone[i].text) << "sequence " << i;
    EXPECT_EQ(together[i].tokens.size(), 20u);
  }
}

TEST(Engine, ALongerPromptKeepsWhatIsThere) {
  auto options = base_options();
  options.kv_type = ops::KvType::kF32;
  options.delta_chunk = 0;
  options.max_sessions = 2;
  auto engine = make(options);
  const SessionId a = *engine->open_session(), b = *engine->open_session();
  const auto first = tokens_of(1, 40), whole = joined(first, tokens_of(2, 30));
  logits_after(*engine, a, first);
  const auto logits = logits_after(*engine, a, whole);
  EXPECT_EQ(engine->times(a).reused_tokens, 40);
  EXPECT_EQ(engine->times(a).prompt_tokens, 30);
  EXPECT_EQ(engine->tokens(a), whole);
  EXPECT_LE(nmse(logits, logits_after(*engine, b, whole)), kCutBound);
  EXPECT_EQ(engine->times(b).reused_tokens, 0);
  engine->clear(b);
  logits_after(*engine, b, first);  // cut at the same place: bit for bit
  EXPECT_EQ(logits_after(*engine, b, whole), logits);
}

TEST(Engine, AConversationGoesBackToTheLastPromptThatAgrees) {
  auto options = base_options();
  options.delta_chunk = 0;
  options.max_sessions = 2;
  auto engine = make(options);
  const SessionId a = *engine->open_session(), b = *engine->open_session();
  const auto first = tokens_of(1, 33);
  say(*engine, a, first, greedy(12));
  const auto second = joined(first, tokens_of(7, 20));  // not what was said
  const auto logits = logits_after(*engine, a, second);
  EXPECT_EQ(engine->times(a).reused_tokens, 33);
  logits_after(*engine, b, first);  // cut at the same place
  EXPECT_EQ(logits, logits_after(*engine, b, second));
  // The same prompt again needs no pass at all; an earlier one goes back to its own checkpoint.
  EXPECT_EQ(logits_after(*engine, a, second), logits);
  EXPECT_EQ(engine->times(a).prompt_tokens, 0);
  say(*engine, a, first, greedy(1));
  EXPECT_EQ(engine->times(a).reused_tokens, 33);
  // A prompt that agrees with no checkpoint starts anew.
  const auto other = tokens_of(9, 25);
  EXPECT_EQ(logits_after(*engine, a, other), logits_after(*engine, b, other));
  EXPECT_EQ(engine->times(a).reused_tokens, 0);
}

TEST(Engine, RegeneratingTheSamePromptSaysTheSame) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  const auto prompt = tokens_of(3, 50);
  const Said first = say(*engine, id, prompt, greedy(15));
  const Said again = say(*engine, id, prompt, greedy(15));
  EXPECT_EQ(again.tokens, first.tokens);
  EXPECT_EQ(engine->times(id).prompt_tokens, 0);
  EXPECT_EQ(engine->times(id).generated_tokens, 15);
  EXPECT_EQ(engine->times(id).prompt_seconds, 0);
}

TEST(Engine, WithoutCheckpointsGoingBackStartsAnew) {
  auto options = base_options();
  options.checkpoints = 0;
  options.delta_chunk = 0;
  auto engine = make(options);
  const SessionId id = *engine->open_session();
  const auto prompt = tokens_of(3, 50), changed = joined(tokens_of(3, 20), {1});
  const auto expected = logits_after(*engine, id, changed);
  logits_after(*engine, id, prompt);
  EXPECT_EQ(logits_after(*engine, id, changed), expected);
  EXPECT_EQ(engine->times(id).reused_tokens, 0);
}

TEST(Engine, RestoreIsBitForBit) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  const Said before = say(*engine, id, tokens_of(1, 77), greedy(3));
  const auto snapshot = engine->snapshot(id);
  std::vector<std::vector<float>> first, second;
  for (auto* run : {&first, &second}) {
    for (int i = 0; i < 10; ++i)
      run->push_back(logits_after(*engine, id, joined(engine->tokens(id), {int32_t(i)})));
    ASSERT_TRUE(engine->restore(id, snapshot).has_value());
    EXPECT_EQ(engine->tokens(id), snapshot.tokens);
    EXPECT_EQ(engine->snapshot(id).state, snapshot.state);
    EXPECT_EQ(engine->snapshot(id).logits, snapshot.logits);
  }
  EXPECT_EQ(first, second);
}

TEST(Engine, RestoreRefusesWhatIsNotOfThisText) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  logits_after(*engine, id, tokens_of(1, 20));
  auto snapshot = engine->snapshot(id);
  engine->clear(id);
  EXPECT_THAT(engine->restore(id, snapshot).error().message, HasSubstr("earlier point"));
  snapshot.state.pop_back();
  EXPECT_THAT(engine->restore(id, snapshot).error().message, HasSubstr("another model"));
}

TEST(Engine, PromptsBeyondTheContextAreRefusedWithBothNumbers) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  const auto result = engine->set_prompt(id, tokens_of(1, kContext + 1));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, AllOf(HasSubstr("257"), HasSubstr("256"), HasSubstr("-c")));
  EXPECT_THAT(engine->set_prompt(id, {}).error().message, HasSubstr("empty"));
  EXPECT_THAT(engine->set_prompt(id, {100000}).error().message, HasSubstr("100000"));
  EXPECT_THAT(engine->generate(id, greedy(1), {}).error().message, HasSubstr("no prompt"));
  EXPECT_THAT(engine->score(id, {}).error().message, HasSubstr("no queued tokens"));
  EXPECT_EQ(say(*engine, id, tokens_of(1, 10), greedy(2)).tokens.size(), 2u);  // still usable
}

TEST(Engine, GenerationEndsWhereTheContextIsFull) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  for (const int prompt : {kContext - 7, kContext - 1, kContext}) {
    const Said said = say(*engine, id, tokens_of(uint64_t(prompt), prompt), greedy(-1));
    EXPECT_EQ(said.reason, FinishReason::kContext) << prompt;
    EXPECT_EQ(said.tokens.size(), size_t(std::max(1, kContext - prompt))) << prompt;
    EXPECT_LE(engine->tokens(id).size(), size_t(kContext));
  }
}

TEST(Engine, MaxTokensCountsExactly) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  for (const int32_t count : {0, 1, 2, 7}) {
    const Said said = say(*engine, id, tokens_of(4, 12), greedy(count));
    EXPECT_EQ(said.tokens.size(), size_t(count));
    EXPECT_EQ(said.reason, FinishReason::kLength);
  }
}

TEST(Engine, StopStringsAndEndOfTextEndIt) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  const auto prompt = tokens_of(6, 30);
  const Said whole = say(*engine, id, prompt, greedy(40));
  const size_t middle = whole.text.size() / 2;
  const std::string stop = whole.text.substr(middle, 3);
  auto options = greedy(40);
  options.stops = {stop};
  const Said stopped = say(*engine, id, prompt, options);
  EXPECT_EQ(stopped.reason, FinishReason::kStopString);
  EXPECT_EQ(stopped.text, whole.text.substr(0, whole.text.find(stop)));

  auto ends = greedy(40);
  ends.ignore_end = false;
  ends.sampling.logit_bias = {{*engine->tokenizer().eos(), 1000.0f}};
  const Said ended = say(*engine, id, prompt, ends);
  EXPECT_EQ(ended.reason, FinishReason::kEndOfText);
  EXPECT_EQ(ended.text, "");
  EXPECT_EQ(engine->times(id).generated_tokens, 0);
}

TEST(Engine, CancellingLeavesTheSessionUsable) {
  auto options = base_options();
  options.batch_tokens = 16;
  options.delta_chunk = 0;
  auto engine = make(options);
  const SessionId id = *engine->open_session();
  const auto prompt = tokens_of(6, 60);
  const Said whole = say(*engine, id, prompt, greedy(10));
  engine->clear(id);

  Said said;  // in the middle of the prompt
  ASSERT_TRUE(engine->set_prompt(id, prompt).has_value());
  start(*engine, id, greedy(10), said);
  ASSERT_TRUE(engine->step().has_value());
  engine->cancel(id);
  EXPECT_EQ(said.reason, FinishReason::kCancelled);
  EXPECT_FALSE(engine->has_work());
  EXPECT_EQ(engine->tokens(id).size(), 16u);
  EXPECT_EQ(say(*engine, id, prompt, greedy(10)).tokens, whole.tokens);
  EXPECT_EQ(engine->times(id).reused_tokens, 16);

  Said part;  // by the callback, in the middle of an answer
  ASSERT_TRUE(engine->set_prompt(id, prompt).has_value());
  ASSERT_TRUE(engine
                  ->generate(id, greedy(10),
                             [&](const Generated& g) {
                               if (g.token >= 0) part.tokens.push_back(g.token);
                               part.reason = g.finish;
                               return part.tokens.size() < 4;
                             })
                  .has_value());
  ASSERT_TRUE(engine->run().has_value());
  EXPECT_EQ(part.reason, FinishReason::kCancelled);
  EXPECT_EQ(part.tokens, std::vector<int32_t>(whole.tokens.begin(), whole.tokens.begin() + 4));
  EXPECT_EQ(say(*engine, id, prompt, greedy(10)).tokens, whole.tokens);
}

TEST(Engine, SessionsAreCountedAndReused) {
  auto options = base_options();
  options.max_sessions = 2;
  auto engine = make(options);
  const SessionId a = *engine->open_session();
  ASSERT_TRUE(engine->open_session().has_value());
  EXPECT_THAT(engine->open_session().error().message, AllOf(HasSubstr("2"), HasSubstr("-np")));
  const auto prompt = tokens_of(8, kContext);  // all pages of a session
  const auto logits = logits_after(*engine, a, prompt);
  engine->close_session(a);
  const SessionId c = *engine->open_session();
  EXPECT_EQ(logits_after(*engine, c, prompt), logits);
}

TEST(Engine, TheReferenceDeviceAgrees) {
  auto options = base_options();
  const auto fast = all_logits(*make(options), {kPrompts[0]});
  options.device = "reference";
  const auto slow = all_logits(*make(options), {kPrompts[0]});
  ASSERT_EQ(fast[0].size(), slow[0].size());
  for (size_t i = 0; i < fast[0].size(); ++i) ASSERT_NEAR(fast[0][i], slow[0][i], 2e-3) << i;
}

TEST(Engine, MappedAndReadFilesAreTheSame) {
  auto options = base_options();
  const auto mapped = all_logits(*make(options), {kPrompts[2]});
  options.use_mmap = false;
  EXPECT_EQ(all_logits(*make(options), {kPrompts[2]}), mapped);
}

TEST(Engine, BadOptionsAreRefusedInOneSentence) {
  const auto message = [](auto change) {
    auto options = base_options();
    change(options);
    auto engine = Engine::create(options);
    return engine ? std::string() : engine.error().message;
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_THAT(message([](auto& o) { o.model_path = "/no/such/file"; }), HasSubstr("/no/such/file"));
  EXPECT_THAT(message([](auto& o) { o.max_sessions = 0; }), HasSubstr("0"));
  EXPECT_THAT(message([](auto& o) { o.batch_tokens = 0; }), HasSubstr("0"));
  EXPECT_THAT(message([](auto& o) { o.context_tokens = 5000; }), AllOf(HasSubstr("5000"), HasSubstr("2048")));
  EXPECT_THAT(message([](auto& o) { o.device = "npu"; }), HasSubstr("npu"));
  if (!list_gpus()) {
    EXPECT_THAT(message([](auto& o) { o.device = "gpu"; }), HasSubstr("GPU"));
  }
  EXPECT_THAT(message([](auto& o) { o.cpu.threads = 5000; }), HasSubstr("5000"));
}

TEST(Engine, TheDefaultContextIsAtMostWhatTheModelWasMadeFor) {
  auto options = base_options();
  options.context_tokens = -1;
  EXPECT_EQ(make(options)->context_tokens(), 2048);
  options.context_tokens = 0;
  EXPECT_EQ(make(options)->context_tokens(), 2048);
}

TEST(MemoryPlan, WhatDoesNotFitIsRefusedWithNumbersAndTheFlagThatHelps) {
  MemoryPlan plan;
  plan.parts = {{"weights", uint64_t(8) << 30, true}, {"KV cache", uint64_t(5) << 30, false}};
  EXPECT_TRUE(check_fits(plan, uint64_t(6) << 30).has_value());  // mapped weights need not fit
  const auto refused = check_fits(plan, uint64_t(4) << 30);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("5.00 GiB"), HasSubstr("4.00 GiB"), HasSubstr("-c")));
  EXPECT_TRUE(plan.exceeds((uint64_t(13) << 30) - 1));
  EXPECT_FALSE(plan.exceeds(uint64_t(13) << 30));
  plan.parts[0].mapped = false;
  EXPECT_THAT(check_fits(plan, uint64_t(4) << 30).error().message, HasSubstr("--no-mmap"));
}

TEST(Evaluate, ARunDoesNotDivergeFromItself) {
  auto engine = make(base_options());
  const SessionId id = *engine->open_session();
  const auto path =
      std::filesystem::temp_directory_path() / ("deltawing_evaluate_" + std::to_string(getpid()));
  EvaluateOptions options;
  options.window = 64;
  options.save_path = path;
  const auto tokens = tokens_of(11, 200);
  const auto first = evaluate(*engine, id, tokens, options);
  ASSERT_TRUE(first.has_value()) << first.error().message;
  options.save_path.clear();
  options.base_path = path;
  const auto second = evaluate(*engine, id, tokens, options);
  std::filesystem::remove(path);
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_EQ(first->nll, second->nll);
  EXPECT_GT(first->perplexity(), 1);
  EXPECT_TRUE(second->compared);
  EXPECT_NEAR(second->kl_max, 0, 1e-6);
  EXPECT_EQ(second->same_top1, 1);
}

}  // namespace
}  // namespace dw
