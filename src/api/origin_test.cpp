#include "api/origin.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(ParseOrigin, SpellsItAsBrowsersDo) {
  EXPECT_EQ(parse_origin("https://example.com").value(), "https://example.com");
  EXPECT_EQ(parse_origin("https://Example.COM:443").value(), "https://example.com");
  EXPECT_EQ(parse_origin("http://example.com:80").value(), "http://example.com");
  EXPECT_EQ(parse_origin("http://example.com:443").value(), "http://example.com:443");
  EXPECT_EQ(parse_origin("http://[::1]:3000").value(), "http://[::1]:3000");
}

TEST(ParseOrigin, SaysWhyItIsNone) {
  const auto why = [](std::string_view text) { return parse_origin(text).error().message; };
  for (const char* text : {"*", "https://*.example.com", "*://example.com"}) {
    EXPECT_EQ(why(text),
              "expected origins such as https://example.com; each has to be named, as with * any page that "
              "somebody here opens could call this server");
  }
  for (const char* text : {"https://example.com/", "https://example.com/a"}) {
    EXPECT_EQ(why(text), "expected origins such as https://example.com; one has no path, and no / at its end");
  }
  for (const char* text : {"", "null", "example.com", "ftp://example.com", "unix:/a", "HTTPS://example.com"}) {
    EXPECT_EQ(why(text), "expected origins such as https://example.com; one begins with http:// or https://");
  }
  for (const char* text : {"https://", "https://a@b", "https://a:0", "https://a b", "https://a?b", "https://a#"}) {
    EXPECT_TRUE(parse_origin(text).has_error()) << text;
  }
}

std::string refusal(std::optional<std::string_view> host, std::optional<std::string_view> origin) {
  const auto refused = refuse_foreign(host, origin, {"https://app.example.com"});
  return refused ? refused->code : "";
}

TEST(RefuseForeign, LetsInWhoCallsThisMachineByItsOwnNames) {
  for (const char* host : {"localhost", "localhost:4080", "LocalHost:4080", "my.localhost:80", "127.0.0.1",
                           "127.255.0.9:4080", "[::1]", "[::1]:4080"}) {
    EXPECT_EQ(refusal(host, {}), "") << host;
  }
  EXPECT_EQ(refusal({}, {}), "");
}

TEST(RefuseForeign, RefusesNamesThatOthersCanHaveResolveToThisMachine) {
  for (const char* host : {"",
                           "a",
                           "evil.example",
                           "evil.example:4080",
                           "localhost.evil.example",
                           "localhost.",
                           "evillocalhost",
                           "127.0.0.1.evil.example",
                           "127.1",
                           "0.0.0.0",
                           "10.0.0.1",
                           "[::]",
                           "::1",
                           "[::1",
                           "[::1].evil.example",
                           "localhost:4080:80",
                           "localhost:x",
                           "evil.example#localhost",
                           "user@localhost",
                           "localhost, localhost"}) {
    EXPECT_EQ(refusal(host, {}), "foreign_host") << host;
    EXPECT_EQ(refusal(host, "https://app.example.com"), "foreign_host") << host;
  }
}

TEST(RefuseForeign, LetsInPagesOfItsOwnAndOfOriginsThatAreNamed) {
  EXPECT_EQ(refusal("localhost:4080", "http://localhost:4080"), "");
  EXPECT_EQ(refusal("[::1]:4080", "https://[::1]:4080"), "");
  EXPECT_EQ(refusal("Localhost", "https://localhost"), "");
  EXPECT_EQ(refusal("localhost:4080", "https://app.example.com"), "");
  EXPECT_EQ(refusal({}, "https://app.example.com"), "");
}

TEST(RefuseForeign, RefusesPagesOfOthers) {
  for (const char* origin :
       {"", "null", "http://evil.example", "http://localhost", "http://localhost:3000", "http://127.0.0.1:4080",
        "http://localhost:4080.evil.example", "http://evil.example/?://localhost:4080", "https://app.example.com.evil",
        "http://app.example.com", "https://app.example.com:444", "https://APP.example.com", "file://"}) {
    EXPECT_EQ(refusal("localhost:4080", origin), "foreign_origin") << origin;
    EXPECT_EQ(refusal({}, origin), "foreign_origin") << origin;
  }
}

TEST(RefuseForeign, SaysWhatToDo) {
  const auto host = refuse_foreign("a", {}, {}), origin = refuse_foreign("localhost", "null", {});
  for (const auto& error : {host, origin}) {
    EXPECT_EQ(error->kind, Error::Kind::forbidden);
    EXPECT_NE(error->message.find("make a key with penstock keys create"), std::string::npos) << error->message;
    EXPECT_NE(error->message.find("--insecure"), std::string::npos) << error->message;
  }
  EXPECT_NE(origin->message.find("cors_origins"), std::string::npos) << origin->message;
}

}  // namespace
}  // namespace penstock
