#include "blob/xml.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace penstock {
namespace {

TEST(XmlTest, ReadsAListing) {
  const XmlElement root = parse_xml(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- a list -->\n"
      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n"
      "  <Name>b</Name><Prefix/>\n"
      "  <Contents><Key>a&lt;b&amp;&quot;&apos;&gt;</Key><!-- no --><Size>1</Size></Contents>\n"
      "  <Contents><Key>&#x1F600;&#228;</Key></Contents >\n"
      "</ListBucketResult>\n");
  EXPECT_EQ(root.name, "ListBucketResult");
  ASSERT_EQ(root.children.size(), 4u);
  EXPECT_EQ(root.value("Name"), "b");
  EXPECT_EQ(root.value("Prefix"), "");
  ASSERT_NE(root.child("Prefix"), nullptr);
  EXPECT_EQ(root.child("Missing"), nullptr);
  EXPECT_EQ(root.value("Missing"), "");
  EXPECT_EQ(root.children[2].value("Key"), "a<b&\"'>");
  EXPECT_EQ(root.children[2].value("Size"), "1");
  EXPECT_EQ(root.children[3].value("Key"), "\U0001F600\u00e4");
}

TEST(XmlTest, ReadsAttributesOfAllKinds) {
  EXPECT_EQ(parse_xml("<a b='1' c:d = \"'>\"/>").name, "a");
  EXPECT_EQ(parse_xml("\xef\xbb\xbf<a\n>x</a\n>").text, "x");
}

TEST(XmlTest, RefusesWhatIsMalformed) {
  for (const char* document : {"",
                               " ",
                               "text",
                               "<",
                               "<a",
                               "<a>",
                               "<a></b>",
                               "<a><b></a></b>",
                               "<a/><b/>",
                               "<a/>x",
                               "x<a/>",
                               "<a b/>",
                               "<a b=c/>",
                               "<a b=\"1/>",
                               "<a b='<'/>",
                               "<a b='1'c='2'/>",
                               "<1/>",
                               "< a/>",
                               "<a>&</a>",
                               "<a>&b;</a>",
                               "<a>&#;</a>",
                               "<a>&#0;</a>",
                               "<a>&#xd800;</a>",
                               "<a>&#x110000;</a>",
                               "<a>&#x;</a>",
                               "<a>&#1 ;</a>",
                               "<a>&lt</a>",
                               "<a><!-- </a>",
                               "<?xml <a/>",
                               "<!DOCTYPE a><a/>",
                               "<a><![CDATA[x]]></a>",
                               "<a><?p?></a>",
                               "<a>&#99999999999;</a>"}) {
    EXPECT_THROW(parse_xml(document), std::runtime_error) << document;
  }
}

TEST(XmlTest, NestingHasALimit) {
  std::string open, close;
  for (int i = 0; i < 16; ++i) open += "<a>", close += "</a>";
  EXPECT_EQ(parse_xml(open + close).name, "a");
  EXPECT_THROW(parse_xml("<a>" + open + close + "</a>"), std::runtime_error);
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  EXPECT_THROW(parse_xml(deep), std::runtime_error);
}

}  // namespace
}  // namespace penstock
