#include "api/page.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(PageTest, GzipIsForWhoeverSaysSo) {
  for (const char* yes : {"gzip", "GZIP", "br, gzip", "deflate , gzip;q=0.5", "gzip; q=1", "gzip;q=0.001"}) {
    EXPECT_TRUE(accepts_gzip(yes)) << yes;
  }
  for (const char* no : {"", "br", "identity", "gzip;q=0", "gzip; q=0.000", "xgzip", "*;q=0", ","}) {
    EXPECT_FALSE(accepts_gzip(no)) << no;
  }
}

TEST(PageTest, AnEntityTagIsNamedWeaklyOrNot) {
  for (const char* yes : {"*", "W/\"a\"", "\"a\"", "\"b\", W/\"a\"", "\"b\",\"a\""}) {
    EXPECT_TRUE(names_etag(yes, "W/\"a\"")) << yes;
  }
  for (const char* no : {"", "a", "\"ab\"", "W/\"b\"", "W/a"}) EXPECT_FALSE(names_etag(no, "W/\"a\"")) << no;
}

}  // namespace
}  // namespace penstock
