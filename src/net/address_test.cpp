#include "net/address.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace penstock {
namespace {

asio::ip::address address(const char* text) {
  return asio::ip::make_address(text);
}

TEST(IsPublic, IsTrueOfAddressesThatAnybodyCanReach) {
  for (const char* text : {"1.1.1.1",         "8.8.8.8",
                           "9.255.255.255",   "11.0.0.0",
                           "100.63.255.255",  "100.128.0.0",
                           "126.255.255.255", "128.0.0.0",
                           "169.253.255.255", "169.255.0.0",
                           "172.15.255.255",  "172.32.0.0",
                           "192.0.1.0",       "192.0.3.0",
                           "192.167.255.255", "192.169.0.0",
                           "198.17.255.255",  "198.20.0.0",
                           "223.255.255.255", "2606:4700::1111",
                           "2001:200::1",     "2001:4860:4860::8888",
                           "2003::1",         "2a00::1",
                           "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8"}) {
    EXPECT_TRUE(is_public(address(text))) << text;
  }
}

TEST(IsPublic, IsFalseOfThisMachineItsNetworkAndWhatIsNobodys) {
  for (const char* text :
       {"0.0.0.0",     "0.1.2.3",         "10.0.0.1",        "10.255.255.255", "100.64.0.0",      "100.127.255.255",
        "127.0.0.1",   "127.255.255.255", "169.254.169.254", "172.16.0.1",     "172.31.255.255",  "192.0.0.1",
        "192.0.2.1",   "192.88.99.1",     "192.168.1.1",     "198.18.0.1",     "198.19.255.255",  "198.51.100.1",
        "203.0.113.1", "224.0.0.1",       "239.255.255.255", "240.0.0.1",      "255.255.255.255", "::",
        "::1",         "::7f00:1",        "100::1",          "fc00::1",        "fd00:ec2::254",   "fe80::1",
        "fec0::1",     "ff02::1",         "2001:db8::1",     "2001:2::1",      "2001:10::1",      "2001:20::1",
        "3fff::1",     "4000::1",         "5f00::1",         "64:ff9b:1::1"}) {
    EXPECT_FALSE(is_public(address(text))) << text;
  }
}

TEST(IsPublic, LooksIntoAddressesThatStandForOthers) {
  for (const char* text : {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::127.0.0.1",
                           "64:ff9b::192.168.0.1", "2002:7f00:1::", "2002:808:808::", "2001::7f00:1"}) {
    EXPECT_FALSE(is_public(address(text))) << text;
  }
}

TEST(AddressBlock, HoldsTheAddressesThatBeginAlike) {
  struct Case {
    const char *block, *inside, *outside;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"10.0.0.0/8", "10.255.0.1", "11.0.0.0"},
           {"172.16.0.0/12", "172.31.255.255", "172.32.0.0"},
           {"10.1.2.3/8", "10.0.0.0", "9.255.255.255"},
           {"192.168.1.7", "192.168.1.7", "192.168.1.6"},
           {"192.168.1.6/31", "192.168.1.7", "192.168.1.8"},
           {"0.0.0.0/0", "8.8.8.8", "2606:4700::1"},
           {"fd00::/8", "fdff::1", "fe00::"},
           {"::1", "::1", "::2"},
           {"10.0.0.0/8", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"},
           {"::ffff:10.0.0.0/104", "10.0.0.1", "11.0.0.1"},
       }) {
    const auto block = AddressBlock::parse(c.block);
    ASSERT_TRUE(block) << c.block;
    EXPECT_TRUE(block->contains(address(c.inside))) << c.block << ' ' << c.inside;
    EXPECT_FALSE(block->contains(address(c.outside))) << c.block << ' ' << c.outside;
  }
}

TEST(AddressBlock, RefusesWhatIsNone) {
  for (const char* text : {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "::1/129", "10/8",
                           "10.0.0.0/8/8", "0x7f.0.0.1", "127.1", "localhost"}) {
    EXPECT_FALSE(AddressBlock::parse(text)) << text;
  }
}

TEST(AllowList, AdmitsPublicAddressesAndWhatItNames) {
  const auto list = AllowList::parse({"hooks.corp", "*.Inside.example", "10.0.0.0/8", "::1"});
  ASSERT_TRUE(list) << list.error().message;
  for (const char* host : {"hooks.corp", "HOOKS.corp", "a.inside.example", "a.b.inside.example"}) {
    EXPECT_FALSE(list->admit(host)) << host << " is admitted wherever it is";
  }
  for (const char* host : {"corp", "x.hooks.corp", "inside.example", "xinside.example", "hooks.corp.evil.com"}) {
    const auto admit = list->admit(host);
    ASSERT_TRUE(admit) << host;
    EXPECT_TRUE(admit(address("8.8.8.8")));
    EXPECT_TRUE(admit(address("10.1.1.1")));
    EXPECT_TRUE(admit(address("::1")));
    EXPECT_FALSE(admit(address("127.0.0.1")));
    EXPECT_FALSE(admit(address("192.168.1.1")));
  }
  EXPECT_FALSE(AllowList().admit("localhost")(address("127.0.0.1")));
}

TEST(AllowList, AdmitsAddressesOfThisMachineOnlyWhenItNamesThem) {
  const auto own = [] { return Addresses{address("10.0.0.1"), address("9.9.9.9"), address("2606:4700::1")}; };
  const auto admit = AllowList().admit("a.example", own);
  for (const char* text : {"9.9.9.9", "::ffff:9.9.9.9", "64:ff9b::9.9.9.9", "2606:4700::1", "2606:4700::1%7"}) {
    EXPECT_FALSE(admit(address(text))) << text;
  }
  for (const char* text : {"9.9.9.8", "::ffff:9.9.9.8", "64:ff9b::9.9.9.8", "2606:4700::2"}) {
    EXPECT_TRUE(admit(address(text))) << text;
  }
  const auto list = AllowList::parse({"9.9.9.0/24", "a.example"});
  EXPECT_TRUE(list->admit("b.example", own)(address("9.9.9.9")));
  EXPECT_FALSE(list->admit("b.example", own)(address("2606:4700::1")));
  EXPECT_FALSE(list->admit("a.example", own)) << "is admitted wherever it is";
}

TEST(AllowList, KnowsTheAddressesOfThisMachine) {
  const Addresses own = own_addresses();
  EXPECT_EQ(std::count(own.begin(), own.end(), address("127.0.0.1")), 1);
  for (const auto& one : own) EXPECT_FALSE(AllowList().admit("a.example")(one)) << one;
}

TEST(AllowList, NamesTheEntryThatIsWrong) {
  for (const char* entry : {"", "*", "*.", "a b", "http://a", "a:80", "10.0.0", "10.0.0.0/99", "..", ".a", "a..b"}) {
    const auto list = AllowList::parse({"good.example", entry});
    ASSERT_FALSE(list) << entry;
    EXPECT_NE(list.error().message.find(fmt::format("'{}'", entry)), std::string::npos) << list.error().message;
  }
}

}  // namespace
}  // namespace penstock
