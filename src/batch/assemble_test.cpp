#include "batch/assemble.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>

#include "batch/plan.h"
#include "batch/validate.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

constexpr Timestamp kNow{Millis(1'764'000'000'000)};
const Assembler::Missing kExpired{"batch_expired", "too late"};

class AssembleTest : public testing::Test {
 protected:
  // The batch's input file and its plan.
  void prepare(const std::string& input) {
    batch.id = {"batch_1"};
    batch.input_file_id = {"file-in"};
    const auto writer = blobs->create("file-in");
    writer->write(input);
    writer->commit();
    auto checked = validate(*blobs->open("file-in"), {.endpoint = "/v1/chat/completions", .models = {}});
    ASSERT_EQ(checked.error_total, 0);
    batch.counts.total = static_cast<std::int64_t>(checked.entries.size());
    std::reverse(checked.entries.begin(), checked.entries.end());  // a plan need not have the file's order
    write_plan(*blobs, batch.input_file_id, checked.entries);
  }

  static std::string line(std::uint32_t index, std::size_t size = 0) {
    return fmt::format("{{\"custom_id\":\"r{}\",\"x\":\"{}\"}}\n", index, std::string(size, 'x'));
  }
  static ResultGroup group(const std::vector<std::uint32_t>& indices, bool failed = false, std::size_t size = 0) {
    ResultGroup made;
    for (const std::uint32_t index : indices) {
      const std::string text = line(index, size);
      made.entries.push_back({index, static_cast<std::uint32_t>(text.size()), failed});
      made.lines += text;
    }
    return made;
  }

  Assembler::Assembled assemble(const std::vector<ResultGroup>& groups) {
    Assembler assembler(*blobs, batch, folder.path());
    for (const ResultGroup& g : groups) assembler.add(g);
    return assembler.finish(kExpired, kNow);
  }

  std::string read(const FileId& id) {
    const auto reader = blobs->open(id.value);
    if (!reader) return "no such blob";
    std::string bytes;
    reader->read_at(0, reader->size(), bytes);
    return bytes;
  }

  TempDir folder;
  std::unique_ptr<BlobStore> blobs = open_local_blobs(folder / "blobs");
  Batch batch;
};

TEST_F(AssembleTest, GroupsInAnyOrderComeOutInTheOrderOfTheInput) {
  prepare(input_lines(0, 7));
  const auto files = assemble({group({6, 1}), group({4}), group({0, 5, 2}), group({3})});
  std::string expected;
  for (std::uint32_t i = 0; i < 7; ++i) expected += line(i);
  EXPECT_EQ(read(output_file_id(batch.id)), expected);
  EXPECT_FALSE(files.errors);
  EXPECT_EQ(read(error_file_id(batch.id)), "no such blob");
  EXPECT_EQ(files.counts, (Counts{7, 7, 0}));
  ASSERT_TRUE(files.output);
  EXPECT_EQ(files.output->id, output_file_id(batch.id));
  EXPECT_EQ(files.output->bytes, expected.size());
  EXPECT_EQ(files.output->purpose, "batch_output");
  EXPECT_TRUE(files.output->filename.ends_with(".jsonl"));
  EXPECT_EQ(files.output->created_at, kNow);
  EXPECT_EQ(files.output->expires_at, kNow + std::chrono::hours(24 * 30));
}

TEST_F(AssembleTest, FailedLinesGoToTheErrorFile) {
  prepare(input_lines(0, 5));
  const auto files = assemble({group({4, 1}, true), group({0, 2, 3})});
  EXPECT_EQ(read(output_file_id(batch.id)), line(0) + line(2) + line(3));
  EXPECT_EQ(read(error_file_id(batch.id)), line(1) + line(4));
  EXPECT_EQ(files.counts, (Counts{5, 3, 2}));
  EXPECT_NE(files.output->id, files.errors->id);
}

TEST_F(AssembleTest, NoFileIsMadeForNoLine) {
  prepare(input_lines(0, 2));
  const auto files = assemble({group({0, 1}, true)});
  EXPECT_FALSE(files.output);
  EXPECT_TRUE(files.errors);
  EXPECT_EQ(read(output_file_id(batch.id)), "no such blob");

  batch.counts.total = 0;
  const auto none = assemble({});
  EXPECT_FALSE(none.output || none.errors);
  EXPECT_EQ(none.counts, (Counts{0, 0, 0}));
}

TEST_F(AssembleTest, MissingLinesBecomeErrorLinesWithTheClientsCustomId) {
  std::string input = input_lines(0, 3);
  input +=
      R"({"custom_id":"\u0061\/b","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}})";
  prepare(input);
  const auto files = assemble({group({1}), group({2}, true)});
  EXPECT_EQ(files.counts, (Counts{4, 1, 3}));
  EXPECT_EQ(read(output_file_id(batch.id)), line(1));
  const auto errors = split_lines(read(error_file_id(batch.id)));
  ASSERT_EQ(errors.size(), 3u);
  EXPECT_EQ(errors[1] + "\n", line(2));
  for (const std::size_t i : {0, 2}) {
    const auto parsed = boost::json::parse(errors[i]);
    EXPECT_EQ(parsed.at("error").at("code").as_string(), "batch_expired");
    EXPECT_EQ(parsed.at("error").at("message").as_string(), "too late");
    EXPECT_TRUE(parsed.at("response").is_null());
  }
  EXPECT_EQ(boost::json::parse(errors[0]).at("custom_id").as_string(), "r0");
  EXPECT_NE(errors[2].find(R"("custom_id":"\u0061\/b")"), std::string::npos);
}

TEST_F(AssembleTest, ManyMissingLinesBetweenAnswersKeepTheirPlaces) {
  constexpr std::uint32_t kLines = 10'000;  // more than are read of a plan at once
  prepare(input_lines(0, kLines));
  std::vector<std::uint32_t> answered;
  for (std::uint32_t i = 0; i < kLines; i += 3) answered.push_back(i);
  const auto files = assemble({group(answered)});
  EXPECT_EQ(files.counts, (Counts{kLines, static_cast<std::int64_t>(answered.size()),
                                  static_cast<std::int64_t>(kLines - answered.size())}));
  const auto errors = split_lines(read(error_file_id(batch.id)));
  std::uint32_t index = 0;
  for (const std::string& error : errors) {
    if (index % 3 == 0) ++index;
    ASSERT_NE(error.find(fmt::format("\"custom_id\":\"r{}\"", index)), std::string::npos) << error;
    ++index;
  }
}

TEST_F(AssembleTest, LinesLargerThanAnyBufferComeOutWhole) {
  prepare(input_lines(0, 4));
  constexpr std::size_t kLarge = 700'000;
  assemble({group({3}, false, kLarge), group({1, 0}, false, kLarge), group({2})});
  EXPECT_TRUE(read(output_file_id(batch.id)) == line(0, kLarge) + line(1, kLarge) + line(2) + line(3, kLarge));
}

TEST_F(AssembleTest, DoingItAgainWritesTheSameFiles) {
  prepare(input_lines(0, 3));
  const auto first = assemble({group({2, 0})});
  const std::string output = read(first.output->id), errors = read(first.errors->id);
  const auto second = assemble({group({0}), group({2})});
  EXPECT_EQ(second.output->id, first.output->id);
  EXPECT_EQ(read(second.output->id), output);
  EXPECT_EQ(read(second.errors->id), errors);
}

TEST_F(AssembleTest, OutputsExpireWhenTheBatchSaysSo) {
  prepare(input_lines(0, 2));
  batch.output_expires_after_seconds = 3'600;
  const auto files = assemble({group({0})});
  EXPECT_EQ(files.output->expires_at, kNow + std::chrono::hours(1));
  EXPECT_EQ(files.errors->expires_at, kNow + std::chrono::hours(1));
}

TEST_F(AssembleTest, NothingIsVisibleOfAnAssemblyThatWasNotFinished) {
  prepare(input_lines(0, 2));
  const auto before = blobs->keys().size();
  {
    Assembler assembler(*blobs, batch, folder.path());
    assembler.add(group({0, 1}));
  }
  EXPECT_EQ(blobs->keys().size(), before);
}

}  // namespace
}  // namespace penstock
