#include "batch/process_report.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace penstock {
namespace {

ProcessReport some() {
  ProcessReport report;
  report.host = "hall-3";
  report.version = "1.2";
  report.pid = 77;
  report.started_at = Timestamp(Millis(1'700'000'000'123));
  report.is_draining = report.is_disk_low = true;
  report.lines = 10;
  report.failed = 2;
  report.usage = {.input = 1, .cached = 2, .output = 3, .reasoning = 4};
  report.engines.push_back({.name = "http://a",
                            .is_managed = true,
                            .is_shared = true,
                            .models = {"m", "n"},
                            .state = "down",
                            .reason = "\"gone\"",
                            .slots = 5,
                            .slots_busy = 6,
                            .waiting = 7,
                            .lines = 8,
                            .lines_per_second = 0.5,
                            .tokens_per_second = 3});
  return report;
}

TEST(ProcessReportTest, WhatAProcessSaysIsReadBack) {
  const std::string text = boost::json::serialize(to_json(some()));
  ProcessReport got;
  got.id = "process_1";
  read(boost::json::parse(text), got);
  EXPECT_EQ(got.id, "process_1");
  EXPECT_EQ(got.started_at, some().started_at);
  EXPECT_TRUE(got.is_draining && got.is_disk_low);
  EXPECT_EQ(got.usage, some().usage);
  EXPECT_EQ(boost::json::serialize(to_json(got)), text);
}

TEST(ProcessReportTest, WhatCannotBeReadSaysNothing) {
  for (const char* text : {"null", "{}", R"({"host":"a"})", R"({"host":1})"}) {
    ProcessReport got;
    read(boost::json::parse(text), got);
    EXPECT_EQ(got.host, "") << text;
  }
}

}  // namespace
}  // namespace penstock
