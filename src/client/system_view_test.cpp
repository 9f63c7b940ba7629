#include "client/system_view.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

json::object list(json::array data) {
  return {{"object", "list"}, {"data", std::move(data)}};
}

json::object batch(int number) {
  return {{"id", fmt::format("batch_{}", number)},
          {"status", "in_progress"},
          {"model", "m"},
          {"lines_per_second", 2.5},
          {"request_counts", {{"total", 10}, {"completed", 4}, {"failed", 1}}}};
}

json::object engine(const char* name) {
  return {{"name", name},    {"kind", "remote"}, {"state", "ready"},         {"slots", 4},
          {"slots_busy", 3}, {"waiting", 7},     {"lines_per_second", 1.25}, {"tokens_per_second", 30.0},
          {"models", {"m"}}, {"reason", nullptr}};
}

SystemView view_of(int batches) {
  json::array queue;
  for (int i = 0; i < batches; ++i) queue.push_back(batch(i));
  return {.url = "http://here",
          .trouble = {},
          .queue = list(std::move(queue)),
          .engines = list({engine("one"), engine("two")}),
          .workers = list({}),
          .point = {{"lines", 50},
                    {"output_tokens", 500},
                    {"failed", 2},
                    {"slots", 8},
                    {"slots_busy", 6},
                    {"queued_lines", 90},
                    {"queued_batches", 3}}};
}

std::vector<std::string> texts(const SystemView& view, std::size_t rows_max) {
  std::vector<std::string> all;
  for (const auto& line : system_lines(view, rows_max)) all.push_back(line.text);
  return all;
}

TEST(SystemViewTest, ShowsRatesQueueAndEngines) {
  const std::vector<std::string> expected = {
      "penstock at http://here: 1 batches",
      "10.0 lines/s   100 output tokens/s   2 failed   slots 6/8   90 lines in 3 batches wait",
      "",
      "BATCH    STATUS       PROGRESS            LINES  FAILED  LINES/S  MODEL  WAITS FOR",
      "batch_0  in_progress  [========        ]  5/10   1       2.5      m",
      "",
      "ENGINE  KIND    STATE  SLOTS  WAITING  LINES/S  TOKENS/S  MODELS  REASON",
      "one     remote  ready  3/4    7        1.2      30.0      m",
      "two     remote  ready  3/4    7        1.2      30.0      m",
  };
  EXPECT_EQ(texts(view_of(1), 100), expected);
}

TEST(SystemViewTest, FitsIntoTheRowsThereAreAndCountsWhatItLeavesOut) {
  for (std::size_t rows = 14; rows < 40; ++rows) EXPECT_LE(texts(view_of(100), rows).size(), rows);
  const auto lines = texts(view_of(100), 20);
  EXPECT_EQ(lines.at(15), "… 89 more");
  EXPECT_TRUE(lines.back().starts_with("two ")) << lines.back();
}

TEST(SystemViewTest, WhoMayNotSeeTheSystemSeesTheQueue) {
  SystemView view = view_of(1);
  view.all = false;
  const auto lines = texts(view, 100);
  EXPECT_EQ(lines.at(1), "This key may not see engines and workers: it needs the scope monitor.");
  EXPECT_TRUE(lines.back().starts_with("batch_0 "));
}

TEST(SystemViewTest, WhatIsMissingIsEmpty) {
  EXPECT_EQ(texts({.url = "u", .trouble = "away", .queue = {}, .engines = {}, .workers = {}, .point = {}}, 10).at(1),
            "waiting: away");
}

}  // namespace
}  // namespace penstock
