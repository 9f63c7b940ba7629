#include "batch/lines_of_files.h"

#include <gtest/gtest.h>

#include <random>

#include "batch/plan.h"
#include "model/output_line.h"
#include "testing/memory_blobs.h"

namespace penstock {
namespace {

void put(BlobStore& blobs, const std::string& key, const std::string& bytes) {
  const auto writer = blobs.create(key);
  writer->write(bytes);
  writer->commit();
}

std::string output_line(std::uint32_t index, std::size_t size = 10) {
  LineOutcome outcome;
  outcome.status = 200;
  outcome.body = "{\"a\":\"" + std::string(size, 'x') + "\"}";
  std::string line;
  append_output_line(line, {"batch_0123456789abcdef0123456789abcdef"}, index, "\"r\"", outcome);
  return line;
}

TEST(ResultLinesTest, ALineIsFoundAmongLinesOfAnySize) {
  MemoryDisk disk;
  MemoryBlobs blobs(disk);
  std::minstd_rand random(7);
  std::string text;
  std::vector<std::uint32_t> indices;
  for (std::uint32_t index = 3; text.size() < 3'000'000; index += 1 + random() % 3) {
    indices.push_back(index);
    text += output_line(index, random() % 20 == 0 ? 400'000 : random() % 300);
  }
  put(blobs, "file-1", text);
  for (std::uint32_t wanted = 0; wanted < indices.back() + 3; ++wanted) {
    ResultLines lines(blobs.open("file-1"));
    lines.seek(wanted);
    const auto expected = std::lower_bound(indices.begin(), indices.end(), wanted);
    if (expected == indices.end()) {
      ASSERT_FALSE(lines.index());
      continue;
    }
    ASSERT_EQ(lines.index(), *expected);
    ASSERT_EQ(output_line_index(lines.line()), *expected);
    ASSERT_EQ(text.substr(lines.offset(), lines.line().size()), lines.line());
    lines.next();
    ASSERT_EQ(lines.index(), expected + 1 == indices.end() ? std::nullopt : std::optional(*(expected + 1)));
  }
}

TEST(ResultLinesTest, AnEmptyFileHasNone) {
  MemoryDisk disk;
  MemoryBlobs blobs(disk);
  put(blobs, "file-1", "");
  ResultLines lines(blobs.open("file-1"));
  lines.seek(0);
  EXPECT_FALSE(lines.index());
}

// Requests with blank lines between them, in a plan that has them the other way round.
struct InputTest : ::testing::Test {
  void SetUp() override {
    std::string text = "\xEF\xBB\xBF";
    for (std::uint32_t index = 0; index < 1'000; ++index) {
      const std::string line =
          R"({"custom_id":")" + std::string(index % 2 ? "a\\u0062c " : "x ") + std::to_string(index) +
          R"(","method":"POST","url":"/v1/chat/completions","body":{"n":)" + std::to_string(index) + "}}";
      entries.push_back({text.size(), static_cast<std::uint32_t>(line.size()), index});
      text += line + (index % 7 ? "\n" : "\n \r\n\n");
    }
    text.pop_back();
    while (text.back() == '\n' || text.back() == '\r' || text.back() == ' ') text.pop_back();
    put(blobs, "file-1", text);
    std::reverse(entries.begin(), entries.end());
    write_plan(blobs, {"file-1"}, entries);
    requests = RequestLines::open(blobs, {"file-1"});
  }

  MemoryDisk disk;
  MemoryBlobs blobs{disk};
  std::vector<PlanEntry> entries;
  std::unique_ptr<RequestLines> requests;
};

TEST_F(InputTest, ARequestIsFoundByItsIndex) {
  const auto places = requests->places({0, 500, 999, 1'000});
  ASSERT_EQ(places.size(), 3u);
  EXPECT_EQ(places.at(500).position, 499u);
  EXPECT_EQ(requests->read(places.at(500).entry).body, R"({"n":500})");
  EXPECT_EQ(requests->read(places.at(999).entry).custom_id_json, R"("a\u0062c 999")");
}

TEST_F(InputTest, ASearchCountsRequestsAndGoesOnWhereItEnded) {
  const auto all = [](std::uint32_t) { return true; };
  std::uint32_t from = 0;
  EXPECT_EQ(requests->search(from, "abc 1", 3, all), (std::vector<std::uint32_t>{1, 11, 13}));
  EXPECT_EQ(from, 14u);
  EXPECT_EQ(requests->search(from, "abc 1", 2, [](auto index) { return index != 15; }),
            (std::vector<std::uint32_t>{17, 19}));
  EXPECT_EQ(requests->search(from, "c 99", 10, all), (std::vector<std::uint32_t>{99, 991, 993, 995, 997, 999}));
  EXPECT_EQ(from, 1'000u);
  EXPECT_TRUE(requests->search(from, "", 10, all).empty());
}

TEST_F(InputTest, WhatIsGoneIsNoInput) {
  blobs.remove(plan_key({"file-1"}));
  EXPECT_EQ(RequestLines::open(blobs, {"file-1"}), nullptr);
}

}  // namespace
}  // namespace penstock
