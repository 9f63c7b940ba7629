#include "batch/hash_set.h"

#include <gtest/gtest.h>

#include <random>

namespace penstock {
namespace {

TEST(HashSetTest, KnowsEachHashItHasSeenAndNoOther) {
  const unsigned seed = std::random_device()();
  std::mt19937_64 random(seed);
  std::vector<Hash128> hashes;
  for (int i = 0; i < 100'000; ++i) hashes.push_back({random(), random()});
  HashSet set;
  for (const Hash128& hash : hashes) {
    set.prefetch(hash);
    ASSERT_TRUE(set.insert(hash)) << "seed " << seed;
  }
  for (const Hash128& hash : hashes) ASSERT_FALSE(set.insert(hash)) << "seed " << seed;
  for (Hash128 hash : hashes) {
    hash.high ^= std::uint64_t{1} << 63;  // the same place, but another hash
    ASSERT_TRUE(set.insert(hash)) << "seed " << seed;
  }
}

TEST(HashSetTest, TakesHashesThatAllBelongInTheLastPlaces) {
  HashSet set;
  for (std::uint64_t i = 0; i < 1'000; ++i) EXPECT_TRUE(set.insert({~std::uint64_t{0}, i << 8}));
  for (std::uint64_t i = 0; i < 1'000; ++i) EXPECT_FALSE(set.insert({~std::uint64_t{0}, i << 8}));
  EXPECT_TRUE(set.insert({0, 0}));
  EXPECT_FALSE(set.insert({0, 0}));
}

}  // namespace
}  // namespace penstock
