#include "engine/memory_fit.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

// SmolLM2-135M in Q4_1, for which llama-server itself tells 92 MB of weights, 180 MB of cache for 2 slots of 4096
// tokens, and 17.5 MB of buffers and some more for what is printed.
GgufHeader smollm2() {
  GgufHeader model;
  model.file_size = 98'362'432;
  model.layers = 30;
  model.kv_heads.assign(30, 3);
  model.key_length = model.value_length = 64;
  model.embedding_length = 576;
  model.context_length = 8192;
  model.vocabulary = 49'152;
  return model;
}

constexpr std::int64_t kMega = 1 << 20, kCacheASlot = 90 * kMega;

TEST(MemoryFitTest, NeedIsWeightsCacheAndBuffers) {
  const MemoryNeed need = memory_need(smollm2(), 4096, 2);
  EXPECT_EQ(need.weights, 98'362'432);
  EXPECT_EQ(need.kv_cache, 2 * kCacheASlot);
  EXPECT_NEAR(static_cast<double>(need.buffers), (96 + 14 + 4) * 1048576.0, 1048576.0);
  EXPECT_EQ(need.total(), need.weights + need.kv_cache + need.buffers);
  EXPECT_EQ(memory_need(smollm2(), 2048, 8).kv_cache, 4 * kCacheASlot);
}

TEST(MemoryFitTest, WhatIsLeftToUsIsChosenByTheMemory) {
  const std::int64_t fixed = memory_need(smollm2(), 4096, 0).total();
  GgufHeader short_model = smollm2();
  short_model.context_length = 512;
  GgufHeader silent_model = smollm2();
  silent_model.context_length = 0;
  const struct {
    const char* what;
    GgufHeader model;
    int context, slots;
    std::optional<std::int64_t> memory;
    int expected_context, expected_slots;
    bool fits;
  } table[] = {
      {"memory unknown", smollm2(), 0, 0, std::nullopt, 4096, 8, true},
      {"plenty", smollm2(), 0, 0, 1LL << 40, 4096, 8, true},
      {"just enough", smollm2(), 0, 0, fixed + 8 * kCacheASlot, 4096, 8, true},
      {"a byte less", smollm2(), 0, 0, fixed + 8 * kCacheASlot - 1, 4096, 7, true},
      {"one slot", smollm2(), 0, 0, fixed + kCacheASlot, 4096, 1, true},
      {"not even one", smollm2(), 0, 0, fixed + kCacheASlot - 1, 4096, 1, false},
      {"a context of its own", smollm2(), 8192, 0, fixed + 8 * kCacheASlot, 8192, 3, true},
      {"slots that were asked for", smollm2(), 0, 16, 1LL << 40, 4096, 16, true},
      {"the same without room", smollm2(), 0, 16, fixed + 8 * kCacheASlot, 4096, 16, false},
      {"a model of short contexts", short_model, 0, 0, 1LL << 40, 512, 8, true},
      {"a model that does not say", silent_model, 0, 0, 1LL << 40, 4096, 8, true},
  };
  for (const auto& row : table) {
    const Size size = choose_size(row.model, row.context, row.slots, row.memory);
    EXPECT_EQ(size.context, row.expected_context) << row.what;
    EXPECT_EQ(size.slots, row.expected_slots) << row.what;
    EXPECT_EQ(size.fits, row.fits) << row.what;
    EXPECT_EQ(size.need.total(), memory_need(row.model, size.context, size.slots).total()) << row.what;
  }
}

TEST(MemoryFitTest, NoHeaderMakesANeedThatIsLessThanNothing) {
  GgufHeader model = smollm2();
  model.kv_heads.assign(10'000, 1'000'000'000);
  model.key_length = model.value_length = model.embedding_length = 1'000'000'000;
  const Size size = choose_size(model, 1'000'000'000, 1'000'000, 1 << 30);
  EXPECT_FALSE(size.fits);
  EXPECT_GT(size.need.total(), 0);
}

TEST(MemoryFitTest, TheMachineTellsWhatIsAvailable) {
  const auto available = memory_available();
  ASSERT_TRUE(available);
  EXPECT_GT(*available, 16 * kMega);
}

TEST(MemoryFitTest, MemoryIsShownAsItIsSold) {
  EXPECT_EQ(memory_text(98'362'432), "94 MB");
  EXPECT_EQ(memory_text(3LL << 29), "1.5 GB");
  EXPECT_EQ(memory_text(24LL << 30), "24.0 GB");
}

}  // namespace
}  // namespace penstock
