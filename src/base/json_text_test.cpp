#include "base/json_text.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonTextTest, EscapesWhatMustNotStandInAString) {
  EXPECT_EQ(quoted("a \"b\" \\ \n\t\r\x1b\x7f end"), R"("a \"b\" \\ \n\u0009\u000d\u001b\u007f end")");
  EXPECT_EQ(quoted(std::string_view("\0", 1)), R"("\u0000")");
  EXPECT_EQ(quoted("ä € 😀"), "\"ä € 😀\"");
}

TEST(JsonTextTest, ReplacesEachByteThatIsNoUtf8) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(quoted("a\xFFz"), "\"a" + bad + "z\"");
  EXPECT_EQ(quoted("\xC3"), "\"" + bad + "\"");                                // cut off
  EXPECT_EQ(quoted("\xC0\x80"), "\"" + bad + bad + "\"");                      // overlong
  EXPECT_EQ(quoted("\xE0\x80\x80"), "\"" + bad + bad + bad + "\"");            // overlong
  EXPECT_EQ(quoted("\xED\xA0\x80"), "\"" + bad + bad + bad + "\"");            // half of a surrogate pair
  EXPECT_EQ(quoted("\xF4\x90\x80\x80"), "\"" + bad + bad + bad + bad + "\"");  // above U+10FFFF
}

}  // namespace
}  // namespace penstock
