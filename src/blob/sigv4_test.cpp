#include "blob/sigv4.h"

#include <gtest/gtest.h>

#include "base/sha256.h"

namespace penstock {
namespace {

constexpr std::string_view kNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const AwsCredentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};

// The signature of an example of the S3 API Reference, of requests to examplebucket on 24 May 2013.
std::string signature(SignedParts parts) {
  parts.headers.emplace_back("host", "examplebucket.s3.amazonaws.com");
  parts.headers.emplace_back("x-amz-date", "20130524T000000Z");
  parts.headers.emplace_back("x-amz-content-sha256", parts.payload_sha256);
  const std::string value = authorization(kExample, {.date = "20130524T000000Z", .region = "us-east-1"}, parts);
  return value.substr(value.find("Signature=") + 10);
}

TEST(SigV4Test, SignsADownloadOfARange) {
  EXPECT_EQ(signature({.method = "GET",
                       .path = "/test.txt",
                       .query = "",
                       .headers = {{"range", "bytes=0-9"}},
                       .payload_sha256 = kNothing}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(SigV4Test, SignsAnUploadOfAKeyThatIsEncoded) {
  const std::string path = uri_encode("/test$file.text", true);
  const std::string payload = sha256_hex("Welcome to Amazon S3.");
  EXPECT_EQ(path, "/test%24file.text");
  EXPECT_EQ(
      signature({.method = "PUT",
                 .path = path,
                 .query = "",
                 .headers = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"date", "Fri, 24 May 2013 00:00:00 GMT"}},
                 .payload_sha256 = payload}),
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST(SigV4Test, SignsAQueryOfANameAlone) {
  const std::string query = canonical_query({{"lifecycle", ""}});
  EXPECT_EQ(signature({.method = "GET", .path = "/", .query = query, .headers = {}, .payload_sha256 = kNothing}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

TEST(SigV4Test, SignsAQueryInTheOrderOfItsNames) {
  const std::string query = canonical_query({{"prefix", "J"}, {"max-keys", "2"}});
  EXPECT_EQ(query, "max-keys=2&prefix=J");
  EXPECT_EQ(signature({.method = "GET", .path = "/", .query = query, .headers = {}, .payload_sha256 = kNothing}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(SigV4Test, SaysWhoSignedWhat) {
  const std::string value = authorization(kExample, {.date = "20130524T000000Z", .region = "eu-west-1"},
                                          {.method = "GET",
                                           .path = "/",
                                           .query = "",
                                           .headers = {{"x-amz-date", "20130524T000000Z"}, {"host", "h"}},
                                           .payload_sha256 = kNothing});
  EXPECT_TRUE(
      value.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/eu-west-1/s3/aws4_request,"
                        "SignedHeaders=host;x-amz-date,Signature="))
      << value;
}

TEST(SigV4Test, EncodesAllButUnreservedCharacters) {
  EXPECT_EQ(uri_encode("azAZ09-._~", false), "azAZ09-._~");
  EXPECT_EQ(uri_encode("a/b c+d=&%\xc3\xa4", false), "a%2Fb%20c%2Bd%3D%26%25%C3%A4");
  EXPECT_EQ(uri_encode("a/b", true), "a/b");
}

}  // namespace
}  // namespace penstock
