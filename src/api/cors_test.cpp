#include "api/cors.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

const std::vector<std::string> kAllowed = {"https://a.example", "http://b.example:3000"};

Request request(const std::string& method, const std::vector<std::pair<std::string, std::string>>& headers) {
  Request made;
  made.method = method;
  for (const auto& [name, value] : headers) made.headers.add(name, value);
  return made;
}

Request preflight_of(const std::string& origin) {
  return request("OPTIONS", {{"origin", origin}, {"access-control-request-method", "POST"}});
}

// What one header of the answer says; "-" where it is not there.
std::string told(const Request& request, std::string_view header) {
  Response response;
  add_cors_headers(response, request, kAllowed);
  return std::string(response.headers.find(header).value_or("-"));
}

TEST(Cors, APreflightOfAnAllowedOriginIsOne) {
  EXPECT_TRUE(is_preflight(preflight_of("https://a.example"), kAllowed));
  EXPECT_TRUE(is_preflight(preflight_of("http://b.example:3000"), kAllowed));
  for (const char* origin : {"https://a.example:444", "http://a.example", "https://A.example", "https://a.example/",
                             "https://x.a.example", "https://a.example.evil", "null", ""}) {
    EXPECT_FALSE(is_preflight(preflight_of(origin), kAllowed)) << origin;
  }
  EXPECT_FALSE(is_preflight(preflight_of("https://a.example"), {}));
  EXPECT_FALSE(is_preflight(request("OPTIONS", {{"origin", "https://a.example"}}), kAllowed));
  EXPECT_FALSE(is_preflight(request("OPTIONS", {{"access-control-request-method", "POST"}}), kAllowed));
  EXPECT_FALSE(is_preflight(request("GET", {{"origin", "https://a.example"}, {"access-control-request-method", "GET"}}),
                            kAllowed));
}

TEST(Cors, OnlyAllowedOriginsAreToldThatTheyMayRead) {
  const auto from = [](const std::string& origin) { return request("GET", {{"origin", origin}}); };
  EXPECT_EQ(told(from("https://a.example"), "access-control-allow-origin"), "https://a.example");
  EXPECT_EQ(told(from("http://b.example:3000"), "access-control-allow-origin"), "http://b.example:3000");
  for (const char* origin : {"https://a.example.evil", "null", "", "*"}) {
    EXPECT_EQ(told(from(origin), "access-control-allow-origin"), "-") << origin;
    EXPECT_EQ(told(from(origin), "vary"), "Origin") << origin;
  }
  EXPECT_EQ(told(request("GET", {}), "vary"), "Origin");
  EXPECT_EQ(told(from("https://a.example"), "access-control-allow-credentials"), "-");
}

TEST(Cors, NothingIsSaidWhereNoOriginIsAllowed) {
  Response response;
  add_cors_headers(response, request("GET", {{"origin", "https://a.example"}}), {});
  EXPECT_EQ(response.headers.begin(), response.headers.end());
}

}  // namespace
}  // namespace penstock
