#include "delivery/results.h"

#include <gtest/gtest.h>

#include "testing/memory_blobs.h"

namespace penstock {
namespace {

class ResultsTest : public testing::Test {
 protected:
  // Without a file where there is no text.
  Results results(const std::string& output, const std::string& errors) {
    return {blob("output", output), blob("errors", errors)};
  }
  // All groups from `position` on.
  static std::vector<std::string> groups(const Results& results, std::uint64_t position, std::size_t lines_max,
                                         std::size_t bytes_max = 1 << 20) {
    std::vector<std::string> all;
    while (position < results.size()) {
      all.push_back(results.lines(position, lines_max, bytes_max));
      if (all.back().empty()) throw std::runtime_error("it does not go on");
      position += all.back().size();
    }
    return all;
  }

  using Groups = std::vector<std::string>;

 private:
  std::unique_ptr<BlobReader> blob(const std::string& key, const std::string& text) {
    if (text.empty()) return nullptr;
    disk_[key] = std::make_shared<const std::string>(text);
    return MemoryBlobs(disk_).open(key);
  }
  MemoryDisk disk_;
};

TEST_F(ResultsTest, TheOutputComesFirstAndTheErrorsBehindIt) {
  const Results both = results("one\ntwo\n", "three\n");
  EXPECT_EQ(both.size(), 14U);
  EXPECT_EQ(groups(both, 0, 1), (Groups{"one\n", "two\n", "three\n"}));
  ASSERT_EQ(both.parts().size(), 2U);
  EXPECT_EQ(both.parts()[1].name, "errors.jsonl");
  EXPECT_EQ(both.parts()[1].begin, 8U);

  const Results errors = results("", "three\n");
  EXPECT_EQ(errors.parts().at(0).name, "errors.jsonl");
  EXPECT_EQ(groups(errors, 0, 5), Groups{"three\n"});
  EXPECT_EQ(groups(results("", ""), 0, 5), Groups{});
}

TEST_F(ResultsTest, GoesOnFromWhereItWasWithTheSameGroups) {
  const Results both = results("1\n2\n3\n4\n5\n", "6\n7\n");
  const Groups all = groups(both, 0, 2);
  EXPECT_EQ(all, (Groups{"1\n2\n", "3\n4\n", "5\n6\n", "7\n"}));
  EXPECT_EQ(groups(both, all[0].size(), 2), Groups(all.begin() + 1, all.end()));
  EXPECT_EQ(both.lines(both.size(), 2, 100), "");
}

TEST_F(ResultsTest, AGroupIsBoundedInBytesButNeverEmpty) {
  const std::string big(1 << 20, 'x');
  const Results both = results("1\n2\n" + big + "\n3\n", "");
  EXPECT_EQ(groups(both, 0, 10, 100), (Groups{"1\n2\n", big + "\n", "3\n"}));
  EXPECT_EQ(groups(both, 0, 10, 2), (Groups{"1\n", "2\n", big + "\n", "3\n"}));
  EXPECT_EQ(groups(both, 0, 10, 2 << 20), Groups{"1\n2\n" + big + "\n3\n"});
}

TEST_F(ResultsTest, BytesEndWithTheirFile) {
  const Results both = results("one\n", "two\n");
  EXPECT_EQ(both.bytes(0, 100), "one\n");
  EXPECT_EQ(both.bytes(2, 1), "e");
  EXPECT_EQ(both.bytes(4, 100), "two\n");
  EXPECT_EQ(both.bytes(8, 100), "");
}

TEST_F(ResultsTest, LinesAreSplit) {
  EXPECT_EQ(split_into_lines("a\n\nb\n"), (std::vector<std::string_view>{"a", "", "b"}));
  EXPECT_TRUE(split_into_lines("").empty());
}

}  // namespace
}  // namespace penstock
