#include "base/output_file.h"

#include <gtest/gtest.h>

#include "testing/fixtures.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST(OutputFile, TakesItsNameWhenItIsWholeAndNotBefore) {
  const TempDir folder;
  folder.write("out.csv", "old");
  {
    OutputFile file(folder / "out.csv");
    file.write("new, ");
    file.write("and whole");
    EXPECT_EQ(text_of(folder / "out.csv"), "old");
    file.commit();
  }
  EXPECT_EQ(text_of(folder / "out.csv"), "new, and whole");
  EXPECT_FALSE(fs::exists(folder / "out.csv.part"));
}

TEST(OutputFile, LeavesNothingWhenItIsGivenUp) {
  const TempDir folder;
  { OutputFile(folder / "out.csv").write("half"); }
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(OutputFile, SaysWhatCannotBeWritten) {
  const TempDir folder;
  const auto write = [](const std::string& path, std::size_t size) -> std::string {
    try {
      OutputFile file(path);
      file.write(std::string(size, 'x'));
      file.commit();
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "written";
  };
  EXPECT_EQ(write(folder / "none/out.csv", 1),
            "cannot write " + (folder / "none/out.csv.part") + ": No such file or directory");
  EXPECT_EQ(write("/dev/null", 1), "cannot write /dev/null: it is no plain file");
  EXPECT_EQ(write(folder.path(), 1), "cannot write " + folder.path() + ": it is no plain file");
  fs::create_symlink("/dev/full", folder / "full.part");
  EXPECT_EQ(write(folder / "full", 1), "cannot write " + (folder / "full.part") + ": No space left on device");
  fs::create_symlink("/dev/full", folder / "full.part");
  EXPECT_EQ(write(folder / "full", 1 << 20), "cannot write " + (folder / "full.part") + ": No space left on device");
}

}  // namespace
}  // namespace penstock
