#include "client/table.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(TableTest, ColumnsAreAsWideAsTheirLettersNeed) {
  EXPECT_EQ(table_lines({{"A", "B"}, {"größer", "x"}, {"y"}}),
            (std::vector<std::string>{"A       B", "größer  x", "y"}));
}

TEST(TableTest, TextFromElsewhereCannotSteerTheTerminal) {
  EXPECT_EQ(shown("a\x1b[31mb\nc\x7f"), "a?[31mb?c?");
  EXPECT_EQ(shown("\xc2\x9b"
                  "31m ü\xc2\xa0é"),
            "?31m ü\xc2\xa0é");
}

TEST(TableTest, CutsBetweenLetters) {
  EXPECT_EQ(cut("größer", 3), "grö");
  EXPECT_EQ(cut("größer", 9), "größer");
  EXPECT_EQ(cut("größer", 0), "");
}

}  // namespace
}  // namespace penstock
