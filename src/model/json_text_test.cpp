#include "model/json_text.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(JsonText, MembersKeepTheBytesOfTheirValues) {
  const auto members = json_members(R"( {"n": 12345678901234567890123 , "s":"a\u0042\n\"", "l":[ 1.50, {"x":null} ],
    "none":null,"yes":true,"k\u0031":"", "half":-1.0e5} )");
  ASSERT_TRUE(members);
  const std::vector<std::array<std::string, 3>> expected{
      {"n", "12345678901234567890123", "12345678901234567890123"},
      {"s", R"("a\u0042\n\"")", "aB\n\""},
      {"l", R"([ 1.50, {"x":null} ])", R"([ 1.50, {"x":null} ])"},
      {"none", "null", ""},
      {"yes", "true", "true"},
      {"k1", R"("")", ""},
      {"half", "-1.0e5", "-1.0e5"},
  };
  ASSERT_EQ(members->size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const JsonMember& member = (*members)[i];
    EXPECT_EQ((std::array{member.name, member.json, member.text}), expected[i]);
  }
}

TEST(JsonText, OnlyOneWholeObjectHasMembers) {
  EXPECT_TRUE(json_members("{}"));
  for (const char* text : {"", "[]", "1", "{", R"({"a":1x})", R"({"a":"\ud800"})", "{} {}", "{\"a\":\"\xFF\"}"}) {
    EXPECT_FALSE(json_members(text)) << text;
  }
}

TEST(JsonText, KnowsJsonAndUtf8) {
  for (const char* text : {"0", "-1.5e3", "true", R"("a")", "[1]", " {} ", "null"}) EXPECT_TRUE(is_json(text)) << text;
  for (const char* text : {"", "0x", "01", "yes", "'a'", "1 2", "{'a':1}"}) EXPECT_FALSE(is_json(text)) << text;
  EXPECT_TRUE(is_utf8("h\xC3\xA9"));
  EXPECT_FALSE(is_utf8("h\xE9"));
}

}  // namespace
}  // namespace penstock
