#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>
#include <set>

#include "api/routes.h"

namespace penstock {

extern const std::string_view kOpenapi;

namespace {

TEST(OpenapiTest, DescribesExactlyTheRoutes) {
  std::set<std::string> served, described;
  for (const auto& [method, path] : route_names()) served.insert(std::string(method) + " " + std::string(path));

  const auto document = boost::json::parse(kOpenapi);
  for (const auto& path : document.at("paths").as_object()) {
    for (const auto& operation : path.value().as_object()) {
      std::string method(operation.key());
      if (method == "parameters") continue;
      std::transform(method.begin(), method.end(), method.begin(), [](unsigned char c) { return std::toupper(c); });
      described.insert(method + " " + std::string(path.key()));
    }
  }
  EXPECT_EQ(described, served);
}

}  // namespace
}  // namespace penstock
