#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// AWS Signature Version 4 for S3, in the Authorization header, over the whole payload. The rules and the examples of
// the test: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header (AWS Signature Version
// 4)" (sig-v4-header-based-auth.html, sigv4-auth-using-authorization-header.html); AWS IAM User Guide, "Create a signed
// AWS API request" (reference_sigv-create-signed-request.html).
namespace penstock {

struct AwsCredentials {
  std::string key_id, secret;
  std::string session_token;  // of temporary credentials
};

struct SigningScope {
  std::string date;    // "20130524T000000Z", in UTC
  std::string region;  // "us-east-1"
  std::string service = "s3";
};

using NameValues = std::vector<std::pair<std::string, std::string>>;

// What is signed of a request. All its headers but those that the HTTP client adds behind our back.
struct SignedParts {
  std::string_view method;
  std::string_view path;   // as it is sent, made by uri_encode(); S3 wants it neither normalised nor encoded again
  std::string_view query;  // as it is sent, made by canonical_query(); empty when there is none
  NameValues headers;      // lower-case names, Host among them; values without spaces around or in a row
  std::string_view payload_sha256;
};

// The value of the Authorization header.
std::string authorization(const AwsCredentials& credentials, const SigningScope& scope, SignedParts parts);

// RFC 3986 as AWS wants it: all but letters, digits and "-._~" as %XX; slashes stay in paths.
std::string uri_encode(std::string_view text, bool keep_slashes);

// "a=1&b=": sorted by name.
std::string canonical_query(NameValues query);

}  // namespace penstock
