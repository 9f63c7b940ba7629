#include "blob/sigv4.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/sha256.h"

namespace penstock {

std::string uri_encode(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '.' || c == '_' || c == '~' || (c == '/' && keep_slashes);
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::string canonical_query(NameValues query) {
  for (auto& [name, value] : query) {
    name = uri_encode(name, false);
    value = uri_encode(value, false);
  }
  std::sort(query.begin(), query.end());
  std::string out;
  for (const auto& [name, value] : query) {
    if (!out.empty()) out += '&';
    out.append(name).append("=").append(value);
  }
  return out;
}

std::string authorization(const AwsCredentials& credentials, const SigningScope& scope, SignedParts parts) {
  std::sort(parts.headers.begin(), parts.headers.end());
  std::string canonical_headers, names;
  for (const auto& [name, value] : parts.headers) {
    canonical_headers.append(name).append(":").append(value).append("\n");
    names.append(names.empty() ? "" : ";").append(name);
  }
  const std::string request = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", parts.method, parts.path, parts.query,
                                          canonical_headers, names, parts.payload_sha256);
  const std::string_view day = std::string_view(scope.date).substr(0, 8);
  const std::string what = fmt::format("{}/{}/{}/aws4_request", day, scope.region, scope.service);
  const std::string to_sign = fmt::format("AWS4-HMAC-SHA256\n{}\n{}\n{}", scope.date, what, sha256_hex(request));
  std::string key = hmac_sha256("AWS4" + credentials.secret, day);
  for (const std::string_view step :
       {std::string_view(scope.region), std::string_view(scope.service), std::string_view("aws4_request")}) {
    key = hmac_sha256(key, step);
  }
  return fmt::format("AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={},Signature={}", credentials.key_id, what, names,
                     hex(hmac_sha256(key, to_sign)));
}

}  // namespace penstock
