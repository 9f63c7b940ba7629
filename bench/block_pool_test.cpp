#include "block_pool.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

using Blocks = std::vector<BlockPool::Block>;

TEST(BlockPoolTest, TakesTheBlockThatWasFreeForLongestAndForgetsIt) {
  BlockPool pool(3);
  const Blocks blocks = {pool.take(), pool.take(), pool.take()};
  for (std::size_t i = 0; i < 3; ++i) pool.cache(blocks[i], 100 + i);
  EXPECT_EQ(pool.free(), 0u);
  for (const std::size_t i : {1, 0, 2}) pool.release(blocks[i]);

  EXPECT_EQ(pool.take(), blocks[1]);
  EXPECT_EQ(pool.find(std::vector<BlockHash>{101}), Blocks{});
  EXPECT_EQ(pool.find(std::vector<BlockHash>{100}), Blocks{blocks[0]});
  EXPECT_EQ(pool.take(), blocks[0]);
  EXPECT_EQ(pool.take(), blocks[2]);
}

TEST(BlockPoolTest, FindsAChainUpToTheFirstBlockThatIsNotThere) {
  BlockPool pool(3);
  const Blocks blocks = {pool.take(), pool.take()};
  pool.cache(blocks[0], 7);
  pool.cache(blocks[1], 9);
  EXPECT_EQ(pool.find(std::vector<BlockHash>{7, 8, 9}), Blocks{blocks[0]});
  EXPECT_EQ(pool.find(std::vector<BlockHash>{7, 9}), blocks);
}

TEST(BlockPoolTest, AFoundBlockThatIsHeldIsNotTaken) {
  BlockPool pool(2);
  const BlockPool::Block first = pool.take(), second = pool.take();
  pool.cache(first, 7);
  pool.release(first);
  pool.release(second);
  pool.hold(first);
  EXPECT_FALSE(pool.is_free(first));
  EXPECT_EQ(pool.take(), second);
  EXPECT_EQ(pool.free(), 0u);
}

TEST(BlockPoolTest, ABlockIsFreeWhenItsLastHolderReleasesIt) {
  BlockPool pool(1);
  const BlockPool::Block block = pool.take();
  pool.hold(block);
  pool.release(block);
  EXPECT_EQ(pool.free(), 0u);
  pool.release(block);
  EXPECT_EQ(pool.free(), 1u);
}

TEST(BlockPoolTest, ASecondBlockOfTheSameContentIsNotFound) {
  BlockPool pool(2);
  const BlockPool::Block first = pool.take(), second = pool.take();
  pool.cache(first, 7);
  pool.cache(second, 7);
  EXPECT_EQ(pool.find(std::vector<BlockHash>{7}), Blocks{first});
  pool.release(second);
  EXPECT_EQ(pool.take(), second);
  EXPECT_EQ(pool.find(std::vector<BlockHash>{7}), Blocks{first});
}

}  // namespace
}  // namespace penstock
