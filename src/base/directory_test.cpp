#include "base/directory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <system_error>

#include "testing/fixtures.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

TEST(MakeDirectoryTest, MakesThoseThatAreMissingForUsAlone) {
  const TempDir root;
  make_directory(root / "a/b/c/");
  for (const char* made : {"a", "a/b", "a/b/c"}) {
    ASSERT_TRUE(fs::is_directory(root / made)) << made;
    EXPECT_EQ(fs::status(root / made).permissions(), fs::perms::owner_all) << made;
  }
}

TEST(MakeDirectoryTest, LeavesOneThatIsThereAsItIs) {
  const TempDir root;
  fs::create_directory(root / "a");
  fs::permissions(root / "a", fs::perms::all);
  make_directory(root / "a");
  EXPECT_EQ(fs::status(root / "a").permissions(), fs::perms::all);
}

TEST(MakeDirectoryTest, CannotMakeOneInAFile) {
  const TempDir root;
  std::ofstream(root / "file") << "x";
  EXPECT_THROW(make_directory(root / "file/a"), std::system_error);
}

}  // namespace
}  // namespace penstock
