#include "base/metrics.h"

#include <gtest/gtest.h>

namespace penstock::metrics {
namespace {

constexpr double kBounds[] = {0.5, 2};

std::string page(Format format) {
  Histogram sizes(kBounds);
  for (const double size : {0.25, 0.5, 1.0, 7.0}) sizes.add(size);
  Exposition page(format);
  page.info("a_build_info", "What it is.");
  page.sample({{"version", "1"}}, std::int64_t{1});
  page.counter("a_lines_total", "Lines, \"all\" of\nthem \\.");
  page.sample({{"model", "a\"b\\c\nd"}, {"outcome", "completed"}}, std::int64_t{9'007'199'254'740'993});
  page.gauge("a_age_seconds", "Age.");
  page.sample({}, 3.0);
  page.histogram("a_size", "Sizes.");
  page.sample({{"model", "m"}}, sizes);
  return page.text();
}

TEST(MetricsPageTest, IsWrittenAsPrometheusReadsIt) {
  EXPECT_EQ(page(Format::prometheus), R"(# HELP a_build_info What it is.
# TYPE a_build_info gauge
a_build_info{version="1"} 1
# HELP a_lines_total Lines, "all" of\nthem \\.
# TYPE a_lines_total counter
a_lines_total{model="a\"b\\c\nd",outcome="completed"} 9007199254740993
# HELP a_age_seconds Age.
# TYPE a_age_seconds gauge
a_age_seconds 3.0
# HELP a_size Sizes.
# TYPE a_size histogram
a_size_bucket{model="m",le="0.5"} 2
a_size_bucket{model="m",le="2.0"} 3
a_size_bucket{model="m",le="+Inf"} 4
a_size_sum{model="m"} 8.75
a_size_count{model="m"} 4
)");
}

TEST(MetricsPageTest, IsWrittenAsOpenMetricsHasIt) {
  const std::string text = page(Format::open_metrics);
  for (const char* line : {"# TYPE a_build info\n", "\na_build_info{version=\"1\"} 1\n", "# TYPE a_lines counter\n",
                           "# HELP a_lines Lines, \\\"all\\\" of\\nthem \\\\.\n",
                           "\na_lines_total{model=", "\na_size_bucket{model=\"m\",le=\"2.0\"} 3\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
}

TEST(MetricsFormatTest, IsTheOneThatIsWantedMore) {
  EXPECT_EQ(format_for(""), Format::prometheus);
  EXPECT_EQ(format_for("*/*"), Format::prometheus);
  EXPECT_EQ(format_for("application/openmetrics-text"), Format::open_metrics);
  EXPECT_EQ(format_for("application/openmetrics-text;version=1.0.0;q=0.5,"
                       "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"),
            Format::open_metrics);
  EXPECT_EQ(format_for("text/plain;version=0.0.4;q=0.6, application/openmetrics-text;version=1.0.0;q=0.5"),
            Format::prometheus);
  EXPECT_EQ(format_for("application/openmetrics-text;q=0"), Format::prometheus);
}

}  // namespace
}  // namespace penstock::metrics
