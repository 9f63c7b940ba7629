#include "model/wire_sinks.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace penstock {
namespace {

namespace json = boost::json;

Error refusal(std::string_view text) {
  const auto sinks = wire::read_sinks(json::parse(text));
  return sinks ? Error{Error::Kind::conflict, "accepted"} : sinks.error();
}

TEST(WireSinksTest, NamesAndUrlsAreKeptAndShownAsTheyWereSaid) {
  const std::string_view said = R"(["one",{"url":"https://h/p"},"two"])";
  const auto sinks = wire::read_sinks(json::parse(said)).value();
  ASSERT_EQ(sinks.size(), 3U);
  EXPECT_EQ(sinks[0].name, "one");
  EXPECT_EQ(sinks[1].url, "https://h/p");
  const std::string kept = wire::sinks_json(sinks);
  EXPECT_EQ(kept, R"([{"name":"one"},{"url":"https://h/p"},{"name":"two"}])");
  EXPECT_EQ(json::serialize(wire::shown_sinks(kept)), said);
  EXPECT_TRUE(wire::read_sinks(json::parse("[]")).value().empty());
}

TEST(WireSinksTest, RefusesWhatIsNoSinkAndNamesIt) {
  EXPECT_EQ(refusal(R"({"url":"https://h"})").param, "sinks");
  EXPECT_EQ(refusal(R"(["1","2","3","4","5","6","7","8","9"])").param, "sinks");
  EXPECT_EQ(refusal(R"(["a",7])").param, "sinks[1]");
  EXPECT_EQ(refusal(R"([{"name":"a"}])").param, "sinks[0]");
  EXPECT_EQ(refusal(R"([{"url":null}])").param, "sinks[0]");
  EXPECT_EQ(refusal(R"([{"url":""}])").param, "sinks[0]");
  EXPECT_EQ(refusal(R"(["a",{"url":"https://h"},"a"])").param, "sinks[2]");
}

}  // namespace
}  // namespace penstock
