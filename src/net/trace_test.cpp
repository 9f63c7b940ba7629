#include "net/trace.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

constexpr const char* kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr const char* kSpan = "b7ad6b7169203331";

TEST(TraceparentTest, IsReadAndWritten) {
  const std::string text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const auto context = parse_traceparent(text);
  ASSERT_TRUE(context);
  EXPECT_EQ(*context, (TraceContext{kTrace, kSpan, true}));
  EXPECT_EQ(to_string(*context), text);
  EXPECT_FALSE(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")->sampled);
  EXPECT_TRUE(parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0b")->sampled);
}

TEST(TraceparentTest, OfALaterVersionIsReadAsThisOne) {
  EXPECT_TRUE(parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
  EXPECT_TRUE(parse_traceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
}

TEST(TraceparentTest, IsNoneWhenMalformed) {
  for (const char* text : {
           "",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",   // of this version
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-012",
           "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
           "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
           "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
           "00-00000000000000000000000000000000-b7ad6b7169203331-01",
           "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
           "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
       }) {
    EXPECT_FALSE(parse_traceparent(text)) << text;
  }
}

TEST(TraceIdTest, IsTheSameForTheSameWords) {
  EXPECT_EQ(trace_id_of("batch_1"), trace_id_of("batch_1"));
  EXPECT_NE(trace_id_of("batch_1"), trace_id_of("batch_2"));
  EXPECT_EQ(trace_id_of("batch_1").size(), 32U);
  EXPECT_EQ(span_id_of("batch_1").size(), 16U);
  EXPECT_NE(trace_id_of("batch_1").substr(0, 16), span_id_of("batch_1"));
  EXPECT_NE(random_span_id(), random_span_id());
}

}  // namespace
}  // namespace penstock
