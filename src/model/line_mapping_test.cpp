#include "model/line_mapping.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

using Fields = std::vector<LineMapping::Field>;

constexpr std::string_view kLine =
    R"({"id":"batch_req_1","custom_id":"a\"b","response":{"status_code":200,"body":{"big":123456789012345678901234567890,)"
    R"("choices":[{"message":{"content":"ein\u00e9 \n"}},{"message":null}], "usage" : {"total_tokens": 5 , "x":[1, 2]} ,)"
    R"("a/b~c":true}},"error":null})";

std::string mapped(const Fields& fields, std::string_view line = kLine) {
  std::string out;
  LineMapping mapping = LineMapping::make(fields).value();
  mapping.append(out, line);
  return out;
}

std::string at(const std::string& path) {
  const std::string object = mapped({{"x", path}});
  return object.substr(5, object.size() - 6);
}

TEST(LineMappingTest, FindsValuesByTheirPathsAndKeepsTheirBytes) {
  EXPECT_EQ(at("$.id"), R"("batch_req_1")");
  EXPECT_EQ(at("$.custom_id"), R"("a\"b")");
  EXPECT_EQ(at("$.response.body.choices[0].message.content"), R"("ein\u00e9 \n")");
  EXPECT_EQ(at("$.response.status_code"), "200");
  EXPECT_EQ(at("$.response.body.big"), "123456789012345678901234567890");
  EXPECT_EQ(at("$.response.body.usage"), R"({"total_tokens": 5 , "x":[1, 2]})");
  EXPECT_EQ(at("$.response.body.usage.total_tokens"), "5");
  EXPECT_EQ(at("$.response.body.usage.x"), "[1, 2]");
  EXPECT_EQ(at("$.response.body.usage.x[1]"), "2");
  EXPECT_EQ(at("$.response.body.a/b~c"), "true");
  EXPECT_EQ(at("$"), kLine);
}

TEST(LineMappingTest, WhatALineDoesNotHaveIsNull) {
  EXPECT_EQ(at("$.error"), "null");
  EXPECT_EQ(at("$.nothing"), "null");
  EXPECT_EQ(at("$.error.message"), "null");
  EXPECT_EQ(at("$.custom_id.length"), "null");
  EXPECT_EQ(at("$.response.body.choices[1].message.content"), "null");
  EXPECT_EQ(at("$.response.body.choices[2]"), "null");
  EXPECT_EQ(at("$.response[0]"), "null");
}

TEST(LineMappingTest, MakesObjectsInObjectsInTheOrderOfTheFields) {
  EXPECT_EQ(mapped({{"data", "", {{"text", "$.custom_id"}, {"meta", "", {{"n", "$.response.status_code"}}}}},
                    {"say \"id\"", "$.id"},
                    {"last", "$.none"}}),
            R"({"data":{"text":"a\"b","meta":{"n":200}},"say \"id\"":"batch_req_1","last":null})");
}

TEST(LineMappingTest, OneMappingTakesManyLines) {
  LineMapping mapping = LineMapping::make({{"a", "$.a"}, {"b", "$.b[0]"}}).value();
  std::string out;
  mapping.append(out, R"({"b":[1],"a":"first"})");
  mapping.append(out, R"({"a":"second and longer than the first"})");
  EXPECT_EQ(out, R"({"a":"first","b":1}{"a":"second and longer than the first","b":null})");
}

TEST(LineMappingTest, RefusesWhatIsNoPathAndNamesItsField) {
  for (const char* path : {"", "response", "$response", "$.", "$..a", "$.a.", "$.a[", "$.a[]", "$.a[x]", "$.a[-1]",
                           "$.a[01]", "$.a[0]b", "$.a]", "$[0", "$ .a", "$.a[*]x", "$[1234567890]"}) {
    const auto made = LineMapping::make({{"data", "", {{"text", path}}}});
    ASSERT_FALSE(made) << path;
    EXPECT_EQ(made.error().param, "data.text");
  }
}

}  // namespace
}  // namespace penstock
