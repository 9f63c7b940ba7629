#include "client/events.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace penstock {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

TEST(EventParserTest, TakesEventsApartHoweverTheyAreCut) {
  const std::string text =
      ": keep-alive\n\nevent: queue\ndata: {\"a\":1}\n\ndata: one\r\ndata:two\r\n\r\nid: 7\nevent: nothing\n\n";
  const Events expected = {{"queue", "{\"a\":1}"}, {"", "one\ntwo"}};
  for (std::size_t size = 1; size <= text.size(); ++size) {
    Events seen;
    EventParser parser([&](std::string_view event, std::string_view data) { seen.emplace_back(event, data); });
    for (std::size_t at = 0; at < text.size(); at += size) parser.add(std::string_view(text).substr(at, size));
    EXPECT_EQ(seen, expected) << size;
  }
}

TEST(EventParserTest, AnEventThatBrokeOffIsNoPartOfTheNextStream) {
  Events seen;
  EventParser parser([&](std::string_view event, std::string_view data) { seen.emplace_back(event, data); });
  parser.add("event: old\ndata: half\nda");
  parser.reset();
  parser.add("data: whole\n\n");
  EXPECT_EQ(seen, (Events{{"", "whole"}}));
}

}  // namespace
}  // namespace penstock
