#include "batch/plan.h"

#include <gtest/gtest.h>

#include "testing/fixtures.h"

namespace penstock {
namespace {

constexpr std::uint64_t kFar = 5'000'000'000;  // past 32 bits

class PlanTest : public testing::Test {
 protected:
  std::unique_ptr<BlobReader> write(std::uint32_t count) {
    std::vector<PlanEntry> entries;
    for (std::uint32_t i = 0; i < count; ++i) entries.push_back({.offset = kFar + i, .length = 10 * i, .index = i});
    write_plan(*blobs, id, entries);
    return blobs->open(plan_key(id));
  }

  TempDir folder;
  std::unique_ptr<BlobStore> blobs = open_local_blobs(folder.path());
  FileId id{"file-1"};
};

TEST_F(PlanTest, ComesBackAsItWasWritten) {
  const auto plan = write(1'000);
  EXPECT_EQ(plan_size(*plan), 1'000u);
  EXPECT_EQ(plan->size(), 16'000u);
  const auto some = read_plan(*plan, 512, 488);
  ASSERT_EQ(some.size(), 488u);
  for (std::uint32_t i = 0; i < 488; ++i) {
    EXPECT_EQ(some[i].offset, kFar + 512 + i);
    EXPECT_EQ(some[i].length, 10 * (512 + i));
    EXPECT_EQ(some[i].index, 512 + i);
  }
  EXPECT_TRUE(read_plan(*plan, 1'000, 0).empty());
}

TEST_F(PlanTest, IsReplacedWhenItIsMadeAnew) {
  write(10);
  EXPECT_EQ(plan_size(*write(3)), 3u);
  EXPECT_EQ(blobs->keys().size(), 1u);
}

TEST_F(PlanTest, MayBeEmpty) {
  EXPECT_EQ(plan_size(*write(0)), 0u);
}

TEST_F(PlanTest, OneShorterThanItsSpansSayIsRefused) {
  const auto plan = write(10);
  EXPECT_THROW(read_plan(*plan, 8, 3), std::runtime_error);
  EXPECT_THROW(read_plan(*plan, 11, 1), std::runtime_error);
}

TEST_F(PlanTest, EachFileHasItsOwn) {
  EXPECT_NE(plan_key({"file-1"}), plan_key({"file-2"}));
}

}  // namespace
}  // namespace penstock
