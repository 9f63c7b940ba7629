#include "model/api_key_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace penstock {
namespace {

TEST(ApiKeyTextTest, MadeKeysLookLikeKeysAndNeverTwiceTheSame) {
  std::set<std::string> made;
  for (int i = 0; i < 1'000; ++i) {
    const std::string key = make_key_text();
    EXPECT_EQ(key.size(), 4u + 27 + 6);
    EXPECT_TRUE(is_key_text(key)) << key;
    made.insert(key);
  }
  EXPECT_EQ(made.size(), 1'000u);
}

// 27,000 draws of 62 characters: 435 of each, and none is off by seven standard deviations. Bytes taken modulo 62 would
// give the first eight a quarter more.
TEST(ApiKeyTextTest, NoCharacterIsFavoured) {
  std::map<char, int> counts;
  for (int i = 0; i < 1'000; ++i) {
    for (const char c : make_key_text().substr(4, 27)) ++counts[c];
  }
  EXPECT_EQ(counts.size(), 62u);
  for (const auto& [c, count] : counts) EXPECT_NEAR(count, 435, 7 * 21) << c;
  int first = 0;
  for (const char c : std::string("01234567")) first += counts[c];
  EXPECT_NEAR(first, 8 * 435, 6 * 59);
}

// The checksum of this one was computed by Python: zlib.crc32, then six digits of base62.
TEST(ApiKeyTextTest, TheChecksumIsCrc32InBase62) {
  EXPECT_TRUE(is_key_text("psk_0123456789ABCDEFGHIJabcdefg1pSeXR"));
}

TEST(ApiKeyTextTest, AnyOtherCharacterLengthOrPrefixIsNoKey) {
  const std::string key = make_key_text();
  for (std::size_t i = 0; i < key.size(); ++i) {
    std::string other = key;
    other[i] = other[i] == 'x' ? 'y' : 'x';
    EXPECT_FALSE(is_key_text(other)) << other;
  }
  for (const std::string& other :
       {std::string(), std::string("psk_"), key.substr(1), key + "0", " " + key, "sk-" + key.substr(4)}) {
    EXPECT_FALSE(is_key_text(other)) << other;
  }
}

TEST(ApiKeyTextTest, TheHashIsSha256AndTheHintShowsFourCharactersOfEachEnd) {
  EXPECT_EQ(key_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(key_hint("psk_abcdefghijklmnopqrstuvwxyz"), "psk_abcd…wxyz");
}

}  // namespace
}  // namespace penstock
