#include "net/loopback.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(LoopbackTest, OnlyNamesAndAddressesOfThisMachineAlone) {
  for (const char* host : {"localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"}) EXPECT_TRUE(is_loopback(host));
  for (const char* host : {"", "0.0.0.0", "::", "[::]", "10.0.0.1", "128.0.0.1", "example.com", "localhost.example.com",
                           "127.0.0.1.example.com", "127.0.0.1:80", "[::1", "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

}  // namespace
}  // namespace penstock
