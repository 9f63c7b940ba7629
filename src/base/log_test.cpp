#include "base/log.h"

#include <gtest/gtest.h>

namespace penstock::log {
namespace {

constexpr std::int64_t kTime = 1'764'475'200'042;  // in Unix time

TEST(LogTest, TextHasTimeLevelAndWhatItIsAbout) {
  EXPECT_EQ(line(Format::text, false, kTime, Level::info, "hello", {}), "2025-11-30T04:00:00.042Z info  hello\n");
  EXPECT_EQ(line(Format::text, false, kTime, Level::warn, "late", batch("batch_1")),
            "2025-11-30T04:00:00.042Z warn  batch batch_1: late\n");
  EXPECT_EQ(line(Format::text, false, kTime, Level::error, "bad", request("req_1")),
            "2025-11-30T04:00:00.042Z error req_1: bad\n");
}

TEST(LogTest, TheJournalGetsAPriorityOnEachLineAndNoTime) {
  EXPECT_EQ(line(Format::text, true, kTime, Level::error, "a\nb", {}), "<3>a\n<3>b\n");
  EXPECT_EQ(line(Format::text, true, kTime, Level::debug, "a", batch("batch_1")), "<7>batch batch_1: a\n");
}

TEST(LogTest, JsonIsOneObjectALineWhateverTheMessage) {
  EXPECT_EQ(line(Format::json, false, kTime, Level::warn, "it said \"no\"\nand \\ ended", batch("batch_1")),
            R"({"time":"2025-11-30T04:00:00.042Z","level":"warn","message":"it said \"no\"\nand \\ ended",)"
            R"("batch":"batch_1"})"
            "\n");
  EXPECT_EQ(line(Format::json, true, kTime, Level::info, "x", request("req_1")),
            R"({"time":"2025-11-30T04:00:00.042Z","level":"info","message":"x","request_id":"req_1"})"
            "\n");
}

}  // namespace
}  // namespace penstock::log
