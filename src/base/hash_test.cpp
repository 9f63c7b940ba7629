#include "base/hash.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

std::string hash(std::initializer_list<std::string_view> parts) {
  StreamHash stream;
  for (const auto part : parts) stream.add(part);
  return stream.hex();
}

TEST(StreamHashTest, IsXxh3Of128Bits) {
  EXPECT_EQ(hash({}), "99aa06d3014798d86001c324468d497f");  // as xxhsum -H2 prints it
}

TEST(StreamHashTest, DoesNotDependOnHowTheBytesWereCut) {
  const std::string text(100'000, 'x');
  const std::string_view view = text;
  EXPECT_EQ(hash({view.substr(0, 1), view.substr(1, 70'000), "", view.substr(70'001)}), hash({text}));
}

TEST(StreamHashTest, TellsStreamsApart) {
  EXPECT_NE(hash({"a"}), hash({"b"}));
  EXPECT_NE(hash({""}), hash({std::string_view("\0", 1)}));
  EXPECT_NE(hash({"ab"}), hash({"ba"}));
}

TEST(StreamHashTest, MayBeAskedInTheMiddle) {
  StreamHash stream;
  stream.add("a");
  const std::string first = stream.hex();
  EXPECT_EQ(first, stream.hex());
  stream.add("b");
  EXPECT_EQ(stream.hex(), hash({"ab"}));
  EXPECT_EQ(first.size(), 32u);
}

}  // namespace
}  // namespace penstock
