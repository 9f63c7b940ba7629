#include "batch/kept_answers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "batch/plan.h"
#include "model/output_line.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

class KeptAnswersTest : public testing::Test {
 protected:
  // A plan of `lines` requests; it need not have the file's order.
  void plan(std::uint32_t lines, bool reversed = false) {
    std::vector<PlanEntry> entries;
    for (std::uint32_t i = 0; i < lines; ++i) entries.push_back({.offset = i, .length = 1, .index = i});
    if (reversed) std::reverse(entries.begin(), entries.end());
    write_plan(*blobs, {"file-in"}, entries);
  }
  static std::string answer(std::uint32_t index, std::size_t size = 10) {
    std::string line;
    LineOutcome outcome;
    outcome.status = 200;
    outcome.body = fmt::format(R"({{"x":"{}"}})", std::string(size, 'x'));
    append_output_line(line, {"batch_0123456789abcdef0123456789abcdef"}, index, fmt::format("\"r{}\"", index), outcome);
    return line;
  }
  std::unique_ptr<BlobReader> blob(const std::string& key, const std::string& bytes) {
    const auto writer = blobs->create(key);
    writer->write(bytes);
    writer->commit();
    return blobs->open(key);
  }
  // All of an output file's answers by index, each seen once and in the group of its span.
  std::map<std::uint32_t, std::string> read(const std::string& output, std::uint32_t lines, bool reversed = false) {
    KeptAnswers answers(blob("file-out", output), *blobs->open(plan_key({"file-in"})));
    std::map<std::uint32_t, std::string> all;
    for (auto groups = answers.next(); !groups.empty(); groups = answers.next()) {
      for (const ResultGroup& group : groups) {
        std::size_t at = 0;
        for (const ResultEntry& entry : group.entries) {
          EXPECT_FALSE(entry.failed);
          EXPECT_EQ(group.span.number, (reversed ? lines - 1 - entry.index : entry.index) / span_lines(lines));
          EXPECT_TRUE(all.emplace(entry.index, group.lines.substr(at, entry.length)).second);
          at += entry.length;
        }
        EXPECT_EQ(at, group.lines.size());
      }
    }
    return all;
  }

  TempDir folder;
  std::unique_ptr<BlobStore> blobs = open_local_blobs(folder.path());
};

TEST_F(KeptAnswersTest, EveryAnswerComesOnceWithItsBytesInTheGroupOfItsSpan) {
  for (const bool reversed : {false, true}) {
    plan(1'200, reversed);
    std::string output;
    std::map<std::uint32_t, std::string> wanted;
    for (std::uint32_t i = 0; i < 1'200; i += 1 + i % 3) output += wanted[i] = answer(i);
    EXPECT_TRUE(read(output, 1'200, reversed) == wanted);
  }
}

TEST_F(KeptAnswersTest, AnswersMayBeLongerThanWhatIsReadAtOnce) {
  plan(3);
  const std::map<std::uint32_t, std::string> wanted = {
      {0, answer(0, 9 << 20)}, {1, answer(1)}, {2, answer(2, 5 << 20)}};
  EXPECT_TRUE(read(wanted.at(0) + wanted.at(1) + wanted.at(2), 3) == wanted);
}

TEST_F(KeptAnswersTest, AnEmptyFileHasNone) {
  plan(3);
  EXPECT_TRUE(read("", 3).empty());
}

TEST_F(KeptAnswersTest, AFileOfAnotherKindIsRefused) {
  plan(3);
  EXPECT_THROW(read("{\"custom_id\":\"r0\"}\n", 3), std::runtime_error);
  EXPECT_THROW(read(answer(3), 3), std::runtime_error) << "there is no such request";
  const std::string cut = answer(0);
  EXPECT_THROW(read(cut.substr(0, cut.size() - 1), 3), std::runtime_error);
}

}  // namespace
}  // namespace penstock
