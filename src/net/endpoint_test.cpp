#include "net/endpoint.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(Endpoint, IsReadFromAUrl) {
  struct Case {
    const char* url;
    bool tls;
    const char *host, *port, *unix_path, *base_path;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"http://a", false, "a", "80", "", ""},
           {"https://a.b/", true, "a.b", "443", "", ""},
           {"http://a:8000/v1/", false, "a", "8000", "", "/v1"},
           {"http://[::1]:8000/x/v1", false, "[::1]", "8000", "", "/x/v1"},
           {"https://[::1]", true, "[::1]", "443", "", ""},
           {"unix:/run/a.sock", false, "localhost", "", "/run/a.sock", ""},
       }) {
    const auto endpoint = Endpoint::parse(c.url);
    ASSERT_TRUE(endpoint) << c.url;
    EXPECT_EQ(endpoint->tls, c.tls) << c.url;
    EXPECT_EQ(endpoint->host, c.host) << c.url;
    EXPECT_EQ(endpoint->port, c.port) << c.url;
    EXPECT_EQ(endpoint->unix_path, c.unix_path) << c.url;
    EXPECT_EQ(endpoint->base_path, c.base_path) << c.url;
  }
}

TEST(Endpoint, RefusesWhatIsNoUrl) {
  for (const char* url : {"", "a:80", "ftp://a", "http://", "http://:80", "http://a:", "http://a:x", "http://a:0",
                          "http://a:65536", "http://u:p@a", "http://a/?q", "http://a/#f", "http://[::1",
                          "http://[::1]x", "http://::1", "unix:", "http://a b", "http://a\r\n/"}) {
    EXPECT_FALSE(Endpoint::parse(url)) << url;
  }
}

TEST(CallUrl, HasAPathAndAQueryOfItsOwn) {
  struct Case {
    const char *url, *host, *port, *target;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"http://a", "a", "80", "/"},
           {"https://a.b/", "a.b", "443", "/"},
           {"https://a.b:8443/hooks/1?token=x/y", "a.b", "8443", "/hooks/1?token=x/y"},
           {"http://a?b", "a", "80", "/?b"},
           {"http://[::1]:80/x//", "[::1]", "80", "/x//"},
       }) {
    const auto url = CallUrl::parse(c.url);
    ASSERT_TRUE(url) << c.url;
    EXPECT_EQ(url->endpoint.host, c.host) << c.url;
    EXPECT_EQ(url->endpoint.port, c.port) << c.url;
    EXPECT_EQ(url->endpoint.base_path, "") << c.url;
    EXPECT_EQ(url->target, c.target) << c.url;
  }
}

TEST(CallUrl, RefusesWhatCannotBeCalled) {
  for (const char* url :
       {"", "/x", "ftp://a/", "unix:/run/a.sock", "http://", "http:///x", "http://?x", "http://u@a/", "http://a/#f",
        "http://a/?x#f", "http://a/ b", "http://a/x\r\nX: y", "http://a/\x7f", "http://b\xc3\xbc/", "http://a:0/"}) {
    EXPECT_FALSE(CallUrl::parse(url)) << url;
  }
}

}  // namespace
}  // namespace penstock
