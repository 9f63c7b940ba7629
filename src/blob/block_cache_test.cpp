#include "blob/block_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <random>

#include "testing/fixtures.h"

namespace penstock {
namespace {

constexpr std::size_t kBlock = BlockCache::kBlockSize;

class BlockCacheTest : public testing::Test {
 protected:
  std::string get(BlockCache& cache, const BlockCache::Id& id) {
    std::string out;
    return cache.read(id, 0, kBlock, out) ? out : "(none)";
  }
  void put(BlockCache& cache, const BlockCache::Id& id, const std::string& bytes) {
    ASSERT_TRUE(cache.claim(id));
    cache.put(id, bytes);
  }

  TempDir folder;
};

TEST_F(BlockCacheTest, KeepsWhatWasPut) {
  BlockCache cache(folder.path(), 4 * kBlock);
  EXPECT_EQ(get(cache, {"a", "v", 0}), "(none)");
  put(cache, {"a", "v", 0}, "bytes");
  put(cache, {"a", "v", 1}, "more");
  EXPECT_EQ(get(cache, {"a", "v", 0}), "bytes");
  EXPECT_EQ(get(cache, {"a", "v", 1}), "more");
  EXPECT_EQ(get(cache, {"b", "v", 0}), "(none)");
  std::string out = "x";
  EXPECT_TRUE(cache.read({"a", "v", 0}, 1, 3, out));
  EXPECT_TRUE(cache.read({"a", "v", 0}, 4, 10, out));
  EXPECT_TRUE(cache.read({"a", "v", 0}, 9, 10, out));
  EXPECT_EQ(out, "xytes");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST_F(BlockCacheTest, TheBlockThatWasReadLongestAgoMakesRoom) {
  BlockCache cache(folder.path(), 3 * kBlock + 1);
  for (std::uint64_t i = 0; i < 3; ++i) put(cache, {"a", "v", i}, std::to_string(i));
  EXPECT_EQ(get(cache, {"a", "v", 0}), "0");
  put(cache, {"b", "v", 0}, "b");
  EXPECT_EQ(get(cache, {"a", "v", 1}), "(none)");
  EXPECT_EQ(get(cache, {"a", "v", 0}), "0");
  EXPECT_EQ(get(cache, {"a", "v", 2}), "2");
  EXPECT_EQ(get(cache, {"b", "v", 0}), "b");
}

TEST_F(BlockCacheTest, WithoutRoomNothingIsKept) {
  BlockCache cache(folder.path(), 0);
  put(cache, {"a", "v", 0}, "bytes");
  EXPECT_EQ(get(cache, {"a", "v", 0}), "(none)");
}

TEST_F(BlockCacheTest, OneFetchesAndTheOthersWait) {
  BlockCache cache(folder.path(), 4 * kBlock);
  ASSERT_TRUE(cache.claim({"a", "v", 0}));
  EXPECT_FALSE(cache.claim({"a", "v", 0}));
  auto other = std::async(std::launch::async, [&] { return get(cache, {"a", "v", 0}); });
  EXPECT_EQ(other.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  cache.put({"a", "v", 0}, "bytes");
  EXPECT_EQ(other.get(), "bytes");
}

TEST_F(BlockCacheTest, WhoWaitsForOneThatGivesUpIsToldSo) {
  BlockCache cache(folder.path(), 4 * kBlock);
  ASSERT_TRUE(cache.claim({"a", "v", 0}));
  auto other = std::async(std::launch::async, [&] { return get(cache, {"a", "v", 0}); });
  EXPECT_EQ(other.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  cache.give_up({"a", "v", 0});
  EXPECT_EQ(other.get(), "(none)");
  EXPECT_TRUE(cache.claim({"a", "v", 0}));
}

TEST_F(BlockCacheTest, WhatIsForgottenIsGone) {
  BlockCache cache(folder.path(), 4 * kBlock);
  put(cache, {"a", "v", 0}, "a0");
  put(cache, {"a", "v", 7}, "a7");
  put(cache, {"aa", "v", 0}, "aa");
  put(cache, {"a", "w", 0}, "another version");
  put(cache, {"b", "v", 0}, "b");
  cache.forget("a");
  EXPECT_EQ(get(cache, {"a", "w", 0}), "(none)");
  EXPECT_EQ(get(cache, {"a", "v", 0}), "(none)");
  EXPECT_EQ(get(cache, {"a", "v", 7}), "(none)");
  EXPECT_EQ(get(cache, {"aa", "v", 0}), "aa");
  EXPECT_EQ(get(cache, {"b", "v", 0}), "b");
}

// One place, many blocks, several threads: no block is ever taken for another.
TEST_F(BlockCacheTest, ThreadsThatPushEachOtherOutReadTheirOwn) {
  BlockCache cache(folder.path(), kBlock);
  const auto content = [](std::uint64_t number) {
    return std::string(700'000 + number, static_cast<char>('a' + number));
  };
  const auto use = [&](unsigned seed) {
    std::minstd_rand random(seed);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t number = random() % 4;
      const BlockCache::Id id{"a", "v", number};
      if (random() % 50 == 0) cache.forget("a");
      std::string out;
      while (!cache.read(id, 0, kBlock, out)) {
        if (!cache.claim(id)) continue;
        if (random() % 10 == 0) {
          cache.give_up(id);
        } else {
          cache.put(id, content(number));
        }
      }
      if (out != content(number)) return false;
    }
    return true;
  };
  std::vector<std::future<bool>> right;
  for (unsigned seed = 1; seed <= 4; ++seed) right.push_back(std::async(std::launch::async, use, seed));
  for (auto& one : right) EXPECT_TRUE(one.get());
}

}  // namespace
}  // namespace penstock
