#include "base/sync.h"

#include <gtest/gtest.h>

#include <system_error>

namespace penstock {
namespace {

using testing::ExitedWithCode;

TEST(SyncDeathTest, WhatCannotBeMadeDurableEndsTheProcess) {
  EXPECT_EXIT(sync_file(-1), ExitedWithCode(kExitNotDurable), "storage failed.*fdatasync of a file: Bad file");
  EXPECT_EXIT(sync_directory(-1), ExitedWithCode(kExitNotDurable), "storage failed.*fsync of a directory: Bad file");
}

TEST(SyncTest, WhatCanBeMadeDurableGoesOn) {
  sync_directory("/tmp");
  EXPECT_THROW(sync_directory("/no such folder"), std::system_error);
}

}  // namespace
}  // namespace penstock
