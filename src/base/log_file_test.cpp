#include "base/log_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "testing/fixtures.h"

namespace penstock {
namespace {

std::string content(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

TEST(LogFileTest, GoesOnWhereItWasAndKeepsOneOldFile) {
  const TempDir folder;
  const std::string path = folder / "log";
  LogFile(path, 10).write("one");
  LogFile log(path, 10);
  log.write("two");
  log.write("three");
  EXPECT_EQ(content(path), "one\ntwo\nthree\n");
  log.write("four");
  EXPECT_EQ(content(path), "four\n");
  EXPECT_EQ(content(path + ".1"), "one\ntwo\nthree\n");
  log.write("and five");
  log.write("six");
  EXPECT_EQ(content(path), "six\n");
  EXPECT_EQ(content(path + ".1"), "four\nand five\n");
}

TEST(LogFileTest, WhatCannotBeWrittenIsLostUntilItCan) {
  const TempDir folder;
  LogFile log(folder / "missing/log");
  log.write("lost");
  std::filesystem::create_directory(folder / "missing");
  log.write("kept");
  EXPECT_EQ(content(folder / "missing/log"), "kept\n");
}

TEST(LogFileTest, EveryNameHasAFileNameOfItsOwn) {
  EXPECT_EQ(file_name_of("smollm2-135m_Q4.1"), "smollm2-135m_Q4.1");
  EXPECT_EQ(file_name_of("some/model:Q4"), "some%2Fmodel%3AQ4");
  EXPECT_EQ(file_name_of("../x"), "%2E.%2Fx");
  EXPECT_EQ(file_name_of("a%2Fb"), "a%252Fb");
  EXPECT_EQ(file_name_of("ü"), "%C3%BC");
  std::string longer;
  for (int i = 0; i < 100; ++i) longer += "ü";
  EXPECT_LE(file_name_of(longer).size(), 200u);
  EXPECT_NE(file_name_of(longer), file_name_of(longer + "x"));
}

}  // namespace
}  // namespace penstock
