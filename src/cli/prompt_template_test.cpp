#include "cli/prompt_template.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace penstock {
namespace {

const Row kRow{7, {{"a", "1"}, {"b c", "{a}"}, {"", "x"}}};

std::string filled(const std::string& text) {
  try {
    return PromptTemplate(text).fill(kRow, "in.csv");
  } catch (const UsageError& e) {
    return std::string("! ") + e.what();
  }
}

TEST(PromptTemplate, PutsTheCellsOfARowIntoItsPlaces) {
  EXPECT_EQ(filled(""), "");
  EXPECT_EQ(filled("{a}"), "1");
  EXPECT_EQ(filled("x {a}{b c} y\n"), "x 1{a} y\n") << "a cell is no template";
  EXPECT_EQ(filled("{{a}} {{{a}}}"), "{a} {1}");
}

TEST(PromptTemplate, SaysWhatIsWrong) {
  for (const char* text : {"{", "}", "a}", "{a", "{}", "{a\n}", "{a{b}}", "{{a}"}) {
    EXPECT_NE(filled(text).find("! the template has a single brace at \""), std::string::npos) << text;
  }
  EXPECT_EQ(filled("{d}"), "! in.csv row 7: there is no d");
  EXPECT_NO_THROW(PromptTemplate("{a} {b}").check({"b", "a"}, "in.csv"));
  EXPECT_THROW(PromptTemplate("{a} {b}").check({"a"}, "in.csv"), UsageError);
}

}  // namespace
}  // namespace penstock
