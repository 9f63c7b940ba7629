#include "step_model.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace penstock {
namespace {

using Id = StepModel::Id;

// A prompt of that many tokens; those with the same letter begin alike.
std::string text(std::int64_t tokens, char letter = 'a') {
  return std::string(static_cast<std::size_t>(tokens) * kTokenBytes, letter);
}

// Numbers that are easy to add up: 1000 a step, 10 a prefilled token, 1 a sequence that generates.
StepModel::Options easy() {
  StepModel::Options options;
  options.base = Micros(1000);
  options.per_prefill_token = Micros(10);
  options.per_sequence = Micros(1);
  options.per_context_token = Micros(0);
  return options;
}

struct Step {
  double time;
  std::vector<Id> tokens, ended;
  std::map<Id, std::int64_t> cached;
};

Step step(StepModel& model) {
  Step result{.time = model.begin_step().count(), .tokens = {}, .ended = {}, .cached = {}};
  for (const StepModel::Token& token : model.end_step()) {
    result.tokens.push_back(token.id);
    if (token.last) result.ended.push_back(token.id);
    result.cached[token.id] = token.cached;
  }
  return result;
}

// The cached tokens of a sequence that is alone and has one token of output.
std::int64_t run_alone(StepModel& model, const std::string& prompt) {
  const Id id = model.add(Prompt(prompt), 1).value();
  for (int i = 0; i < 100; ++i) {
    Step s = step(model);
    if (!s.ended.empty()) return s.cached.at(id);
  }
  return -1;
}

TEST(PromptTest, CountsFourBytesAsATokenAndHashesWholeBlocks) {
  EXPECT_EQ(Prompt("").tokens, 1);
  EXPECT_EQ(Prompt("abcd").tokens, 1);
  EXPECT_EQ(Prompt("abcde").tokens, 2);
  EXPECT_EQ(Prompt(text(15)).blocks.size(), 0u);
  EXPECT_EQ(Prompt(text(16)).blocks.size(), 1u);
  EXPECT_EQ(Prompt(text(31)).blocks.size(), 1u);
}

TEST(PromptTest, ABlockIsTheSameOnlyBehindTheSameBeginning) {
  const Prompt one(text(16, 'a') + text(16, 'b')), two(text(16, 'a') + text(16, 'c')),
      three(text(16, 'c') + text(16, 'b'));
  EXPECT_EQ(one.blocks[0], two.blocks[0]);
  EXPECT_NE(one.blocks[1], two.blocks[1]);
  EXPECT_NE(one.blocks[1], three.blocks[1]);
}

TEST(StepModelTest, ASequenceTakesOneStepForItsPromptAndFirstTokenAndOneForEachFurtherToken) {
  StepModel::Options options = easy();
  options.per_context_token = Micros(2);
  StepModel model(options);
  model.add(Prompt(text(10)), 3);
  Step s = step(model);
  EXPECT_EQ(s.time, 1000 + 10 * 10 + 10 * 2);
  EXPECT_EQ(s.tokens, std::vector<Id>{1});
  EXPECT_EQ(step(model).time, 1000 + 1 + 11 * 2);
  s = step(model);
  EXPECT_EQ(s.time, 1000 + 1 + 12 * 2);
  EXPECT_EQ(s.ended, std::vector<Id>{1});
  EXPECT_TRUE(model.idle());
  EXPECT_EQ(model.counters().steps, 3);
  EXPECT_EQ(model.counters().time.count(), 1120 + 1023 + 1025);
  EXPECT_EQ(model.counters().generated_tokens, 3);
}

TEST(StepModelTest, APromptLargerThanTheBudgetIsPrefilledInChunks) {
  StepModel::Options options = easy();
  options.step_tokens_max = 32;
  StepModel model(options);
  model.add(Prompt(text(65)), 1);
  EXPECT_EQ(step(model).time, 1320);
  const Step second = step(model);
  EXPECT_EQ(second.time, 1320);
  EXPECT_TRUE(second.tokens.empty());
  const Step third = step(model);
  EXPECT_EQ(third.time, 1010);
  EXPECT_EQ(third.ended, std::vector<Id>{1});
}

TEST(StepModelTest, DecodesComeFirstThenTheChunkUnderWayThenWaitingOnes) {
  StepModel::Options options = easy();
  options.step_tokens_max = 32;
  StepModel model(options);
  model.add(Prompt(text(16, 'a')), 10);
  model.add(Prompt(text(100, 'b')), 1);
  model.add(Prompt(text(5, 'c')), 1);
  EXPECT_EQ(step(model).time, 1000 + 160 + 160);  // 16 tokens are left for the second
  EXPECT_EQ(step(model).time, 1000 + 1 + 310);
  EXPECT_EQ(step(model).time, 1000 + 1 + 310);
  EXPECT_EQ(model.waiting(), 1u);
  const Step last = step(model);
  EXPECT_EQ(last.time, 1000 + 1 + 220 + 50);
  EXPECT_EQ(last.tokens, (std::vector<Id>{1, 2, 3}));
  EXPECT_EQ(last.ended, (std::vector<Id>{2, 3}));
}

TEST(StepModelTest, FirstComeFirstServedAndNoMoreThanThereArePlaces) {
  StepModel::Options options = easy();
  options.sequences_max = 2;
  StepModel model(options);
  model.add(Prompt(text(10, 'a')), 3);
  model.add(Prompt(text(10, 'b')), 2);
  model.add(Prompt(text(10, 'c')), 1);
  model.add(Prompt(text(10, 'd')), 1);
  EXPECT_EQ(step(model).tokens, (std::vector<Id>{1, 2}));
  EXPECT_EQ(step(model).ended, std::vector<Id>{2});
  EXPECT_EQ(step(model).ended, (std::vector<Id>{1, 3}));
  EXPECT_EQ(step(model).ended, std::vector<Id>{4});
}

TEST(StepModelTest, WholeBlocksOfASharedBeginningAreCachedButNeverTheLastToken) {
  StepModel model(easy());
  EXPECT_EQ(run_alone(model, text(64)), 0);
  EXPECT_EQ(run_alone(model, text(64)), 48);
  EXPECT_EQ(run_alone(model, text(64) + text(10, 'b')), 64);
  EXPECT_EQ(run_alone(model, text(31) + text(33, 'c')), 16);
  EXPECT_EQ(run_alone(model, text(64, 'd')), 0);
  EXPECT_EQ(model.counters().prompt_tokens, 64 + 64 + 74 + 64 + 64);
  EXPECT_EQ(model.counters().cached_tokens, 48 + 64 + 16);
  EXPECT_EQ(model.counters().computed_tokens, 64 + 16 + 10 + 48 + 64);
}

TEST(StepModelTest, SequencesOfOneStepShareWhatTheFirstOfThemComputes) {
  StepModel model(easy());
  model.add(Prompt(text(32) + text(8, 'b')), 1);
  model.add(Prompt(text(32) + text(8, 'c')), 1);
  const Step s = step(model);
  EXPECT_EQ(s.time, 1000 + 400 + 80);
  EXPECT_EQ(s.cached, (std::map<Id, std::int64_t>{{1, 0}, {2, 32}}));
}

TEST(StepModelTest, TheEndOfWhatWasUnusedForLongestIsEvictedFirst) {
  StepModel::Options options = easy();
  options.blocks = 6;
  StepModel model(options);
  run_alone(model, text(48, 'a'));
  run_alone(model, text(48, 'b'));
  run_alone(model, text(16, 'c'));  // takes the place of the last third of the first
  EXPECT_EQ(run_alone(model, text(48, 'a')), 32);
  EXPECT_EQ(run_alone(model, text(48, 'b')), 32);
}

TEST(StepModelTest, BlocksInUseAreNotEvicted) {
  StepModel::Options options = easy();
  options.blocks = 4;
  StepModel model(options);
  model.add(Prompt(text(32, 'a')), 10);
  step(model);
  EXPECT_EQ(model.cache_usage(), 0.5);
  model.add(Prompt(text(48, 'b')), 1);  // needs three blocks, and two are free at most
  for (int i = 2; i <= 10; ++i) EXPECT_EQ(step(model).tokens, std::vector<Id>{1});
  EXPECT_EQ(step(model).ended, std::vector<Id>{2});
}

TEST(StepModelTest, AFreeBlockThatIsFoundIsInUseAgain) {
  StepModel::Options options = easy();
  options.blocks = 4;
  StepModel model(options);
  run_alone(model, text(32));
  EXPECT_EQ(model.cache_usage(), 0);
  model.add(Prompt(text(33)), 2);
  step(model);
  EXPECT_EQ(model.cache_usage(), 0.75);
}

TEST(StepModelTest, WithoutBlocksTheLastAdmittedIsPreemptedAndComputedAgain) {
  StepModel::Options options = easy();
  options.blocks = 4;
  StepModel model(options);
  model.add(Prompt(text(16, 'a')), 40);
  model.add(Prompt(text(16, 'b')), 40);
  EXPECT_EQ(step(model).time, 1320);
  for (int i = 2; i <= 17; ++i) EXPECT_EQ(step(model).time, 1002);
  EXPECT_EQ(model.counters().preemptions, 0);
  EXPECT_EQ(step(model).time, 1001) << "the first needs its third block, so the second goes";
  EXPECT_EQ(model.counters().preemptions, 1);
  EXPECT_EQ(model.waiting(), 1u);
  for (int i = 19; i <= 39; ++i) EXPECT_EQ(step(model).time, 1001);
  EXPECT_EQ(step(model).ended, std::vector<Id>{1});
  EXPECT_EQ(step(model).time, 1330) << "its prompt and the 17 tokens that it had, of which nothing is left";
  for (int i = 42; i <= 62; ++i) EXPECT_TRUE(step(model).ended.empty());
  EXPECT_EQ(step(model).ended, std::vector<Id>{2});
  EXPECT_EQ(model.counters().steps, 63);
  EXPECT_EQ(model.counters().generated_tokens, 80);
  EXPECT_EQ(model.counters().computed_tokens, 16 + 16 + 33);
  EXPECT_EQ(model.counters().prompt_tokens, 32);
}

TEST(StepModelTest, APreemptedSequenceTakesBackWhatIsStillCached) {
  StepModel::Options options = easy();
  options.blocks = 5;
  StepModel model(options);
  model.add(Prompt(text(16, 'a')), 20);
  model.add(Prompt(text(16, 'b')), 20);
  for (int i = 1; i <= 17; ++i) step(model);
  EXPECT_EQ(step(model).tokens, std::vector<Id>{1}) << "there was one block left, and the second was preempted";
  for (int i = 19; i <= 20; ++i) step(model);
  const Step back = step(model);
  EXPECT_EQ(back.time, 1001);
  EXPECT_EQ(back.tokens, std::vector<Id>{2});
  EXPECT_EQ(back.cached.at(2), 0) << "as at its first admission";
  EXPECT_EQ(model.counters().preemptions, 1);
  EXPECT_EQ(model.counters().computed_tokens, 32);
}

TEST(StepModelTest, APreemptedSequenceComesBeforeThoseThatWait) {
  StepModel::Options options = easy();
  options.blocks = 4;
  StepModel model(options);
  model.add(Prompt(text(16, 'a')), 20);
  model.add(Prompt(text(16, 'b')), 20);
  for (int i = 1; i <= 17; ++i) step(model);
  model.add(Prompt(text(1, 'c')), 1);
  for (int i = 18; i <= 20; ++i) EXPECT_EQ(step(model).tokens, std::vector<Id>{1});
  EXPECT_EQ(step(model).tokens, (std::vector<Id>{2, 3}));
}

TEST(StepModelTest, NobodyIsAdmittedInAStepThatPreempted) {
  StepModel::Options options = easy();
  options.blocks = 4;
  StepModel model(options);
  model.add(Prompt(text(16)), 40);
  model.add(Prompt(text(16)), 40);  // the same, so that it finds all it lost in the blocks of the first
  for (int i = 1; i <= 17; ++i) step(model);
  EXPECT_EQ(step(model).tokens, std::vector<Id>{1});
  EXPECT_EQ(step(model).tokens, (std::vector<Id>{1, 2}));
}

TEST(StepModelTest, WhatCouldNeverRunIsRefused) {
  StepModel::Options options = easy();
  options.blocks = 2;
  StepModel model(options);
  EXPECT_FALSE(model.add(Prompt(text(30)), 4));
  EXPECT_TRUE(model.idle());
  EXPECT_TRUE(model.add(Prompt(text(30)), 3));
}

TEST(StepModelTest, ARemovedSequenceMakesNoTokenAndHoldsNothing) {
  StepModel model(easy());
  const Id first = model.add(Prompt(text(16, 'a')), 5).value();
  const Id second = model.add(Prompt(text(16, 'b')), 5).value();
  const Id third = model.add(Prompt(text(16, 'c')), 5).value();
  model.remove(third);
  model.begin_step();
  model.remove(first);
  const auto tokens = model.end_step();
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].id, second);
  model.remove(second);
  EXPECT_TRUE(model.idle());
  EXPECT_EQ(model.cache_usage(), 0);
  model.remove(second);
}

}  // namespace
}  // namespace penstock
