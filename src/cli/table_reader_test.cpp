#include "cli/table_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/error.h"

namespace penstock {
namespace {

std::unique_ptr<TableReader> reader(const std::string& text, TableFormat format) {
  return read_table(std::make_unique<std::istringstream>(text), "in", format);
}

// "2[a=1 b=x] 3[…]": each row with its number, or what is wrong with the file.
std::string read(const std::string& text, TableFormat format = TableFormat::csv) {
  std::string all;
  try {
    const auto table = reader(text, format);
    for (Row row; table->next(row);) {
      std::string cells;
      for (const Cell& cell : row.cells)
        cells += fmt::format("{}{}={}", cells.empty() ? "" : "|", cell.column, cell.text);
      all += fmt::format("{}{}[{}]", all.empty() ? "" : " ", row.number, cells);
    }
  } catch (const UsageError& e) {
    return e.what();
  }
  return all;
}

TEST(TableReader, ReadsWhatRfc4180Allows) {
  const std::pair<std::string, std::string> cases[] = {
      {"a,b\r\n1,2\r\n3,4\r\n", "2[a=1|b=2] 3[a=3|b=4]"},
      {"a,b\n1,2", "2[a=1|b=2]"},
      {"a,b\r1,2\r", "2[a=1|b=2]"},
      {"\"a\",b\n\"x, \"\"y\"\"\r\nz\",\n", "2[a=x, \"y\"\r\nz|b=]"},
      {"a,b\n 1 , \"\n",
       "in row 2: a quote stands inside a cell; such a cell stands in quotes, and its own are doubled"},
      {"a,b\n 1 ,\t2 \n", "2[a= 1 |b=\t2 ]"},
      {"\xEF\xBB\xBF\"ä\",b\n1,2\n", "2[ä=1|b=2]"},
      {"a\n\n1\n\r\n\"\"\n", "3[a=1] 5[a=]"},
      {"a\r\n\r\n1\r\n", "3[a=1]"},
      {"a,b,\n1,2,\n", "2[a=1|b=2|=]"},
      {"a\n", ""},
  };
  for (const auto& [text, rows] : cases) EXPECT_EQ(read(text), rows) << text;
}

TEST(TableReader, SeesInTheHeaderWhatSeparatesCells) {
  const std::tuple<std::string, char, std::string> cases[] = {
      {"a;b,c;d\n1;2;3\n", ';', "2[a=1|b,c=2|d=3]"},
      {"\"a;b;c\",d\n1,2\n", ',', "2[a;b;c=1|d=2]"},
      {"a\tb\n1\t2,;3\n", '\t', "2[a=1|b=2,;3]"},
      {"a\n1;2\n", ',', "2[a=1;2]"},
  };
  for (const auto& [text, delimiter, rows] : cases) {
    EXPECT_EQ(reader(text, TableFormat::csv)->delimiter(), delimiter) << text;
    EXPECT_EQ(read(text), rows);
  }
  EXPECT_EQ(read("a,b\tc\n1,2\t3\n", TableFormat::tsv), "2[a,b=1,2|c=3]");
}

TEST(TableReader, SaysWhichRowIsWrong) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "in is empty: its first row names the columns"},
      {"a,a\n", "in row 1: the column a stands there twice"},
      {"a,b\n1,2\n3\n", "in row 3: has 1 cells, and the header has 2; a cell with , or a quote in it stands in quotes"},
      {"a\n1\n\"2\n3\n", "in row 3: a quoted cell has no closing quote"},
      {"a\n1\n2\"\n3\n",
       "in row 3: a quote stands inside a cell; such a cell stands in quotes, and its own are doubled"},
      {"a\n1\nh\xE9\n", "in row 3: is not UTF-8: save it as UTF-8 (in Excel as \"CSV UTF-8\")"},
      {std::string("\xFF\xFE") + "a", "in is UTF-16: save it as UTF-8 (in Excel as \"CSV UTF-8\")"},
      {"a\n\"" + std::string(17 << 20, 'x'), "in row 2: a cell has more than 16 MiB: a closing quote may be missing"},
  };
  for (const auto& [text, words] : cases) EXPECT_EQ(read(text), words) << text.substr(0, 99);
}

TEST(TableReader, RowsBeforeAFaultAreRead) {
  const auto table = reader("a\n1\n2\"\n", TableFormat::csv);
  Row row;
  ASSERT_TRUE(table->next(row));
  EXPECT_EQ(row.cells.front().text, "1");
  EXPECT_THROW(table->next(row), UsageError);
}

TEST(TableReader, ReadsAnObjectALine) {
  const auto jsonl = TableFormat::jsonl;
  EXPECT_EQ(read("\xEF\xBB\xBF{\"a\":\"x\\n\",\"n\":1.50}\r\n\n{\"b\":[1, 2]}", jsonl), "1[a=x\n|n=1.50] 3[b=[1, 2]]");
  EXPECT_EQ(read("{}\n[1]\n", jsonl), "in row 2: is not a JSON object");
  EXPECT_EQ(read("{\"a\":1,\"a\":2}\n", jsonl), "in row 1: a stands there twice");
  EXPECT_EQ(read("", jsonl), "");
  EXPECT_TRUE(reader("{\"a\":1}", jsonl)->columns().empty());
  Row row;
  reader("{\"a\":\"x\\n\"}", jsonl)->next(row);
  EXPECT_EQ(row.cells.front().json, "\"x\\n\"");
}

TEST(TableReader, ReadsAPromptALine) {
  EXPECT_EQ(read("\xEF\xBB\xBFone, \"1\"\r\n \t\ntwo", TableFormat::text), "1[text=one, \"1\"] 3[text=two]");
  EXPECT_EQ(read("\xE9", TableFormat::text), "in row 1: is not UTF-8: save it as UTF-8 (in Excel as \"CSV UTF-8\")");
}

TEST(TableReader, AFileIsWhatItsNameSays) {
  EXPECT_EQ(table_format("x/a.CSV"), TableFormat::csv);
  EXPECT_EQ(table_format("a.b.tsv"), TableFormat::tsv);
  EXPECT_EQ(table_format("a.ndjson"), TableFormat::jsonl);
  EXPECT_EQ(table_format("a.txt"), TableFormat::text);
  EXPECT_EQ(table_format("csv"), std::nullopt);
  EXPECT_THROW(open_table("a.xlsx"), UsageError);
  EXPECT_THROW(open_table("/no/such.csv"), UsageError);
}

}  // namespace
}  // namespace penstock
