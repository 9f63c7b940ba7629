#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>

#include "base/error.h"
#include "blob/s3.h"
#include "net/http_client.h"

namespace penstock {
namespace {

bool has_only(std::string_view text, std::string_view special) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           special.find(c) != std::string_view::npos;
  });
}

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

using Section = std::map<std::string, std::string, std::less<>>;

// "[section]" and "name = value" lines; all else is passed over, like a file that is not there.
void read_section(const std::string& path, std::string_view wanted, Section& into) {
  std::ifstream file(path);
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    const std::string_view text = trim(line);
    if (text.starts_with('[')) {
      inside = text.ends_with(']') && trim(text.substr(1, text.size() - 2)) == wanted;
    } else if (const auto equals = text.find('='); inside && !text.starts_with('#') && equals != text.npos) {
      into.emplace(trim(text.substr(0, equals)), trim(text.substr(equals + 1)));
    }
  }
}

Section read_profile(const S3Options::Environment& environment) {
  const std::string home = environment("HOME").value_or("");
  const std::string name = environment("AWS_PROFILE").value_or("default");
  Section profile;
  read_section(environment("AWS_SHARED_CREDENTIALS_FILE").value_or(home + "/.aws/credentials"), name, profile);
  read_section(environment("AWS_CONFIG_FILE").value_or(home + "/.aws/config"),
               name == "default" ? name : "profile " + name, profile);
  return profile;
}

void read_address(std::string_view address, S3Options& options) {
  const auto bad = [&](std::string_view why) {
    return UsageError(fmt::format("'{}' is not s3://bucket/prefix: {}", address, why));
  };
  std::string_view rest = address;
  if (!rest.starts_with("s3://")) throw bad("it begins otherwise");
  rest.remove_prefix(5);
  options.bucket = rest.substr(0, rest.find('/'));
  if (options.bucket.empty() || !has_only(options.bucket, ".-_") || options.bucket[0] == '.') {
    throw bad("a bucket's name has letters, digits, dots and hyphens");
  }
  rest.remove_prefix(options.bucket.size());
  while (rest.starts_with('/')) rest.remove_prefix(1);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.empty()) return;
  options.prefix = fmt::format("{}/", rest);
  const std::string between = "/" + options.prefix;
  if (!has_only(rest, "/-_.!*'()")) throw bad("a prefix has letters, digits and the characters /-_.!*'()");
  for (const char* empty : {"//", "/./", "/../"}) {
    if (between.find(empty) != std::string::npos) throw bad("a part of the prefix is empty, '.' or '..'");
  }
}

}  // namespace

std::optional<std::string> S3Options::process_environment(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

S3Options S3Options::from_environment(const std::string& address, const Environment& environment) {
  S3Options options;
  read_address(address, options);
  const Section profile = read_profile(environment);
  const auto first = [&](std::initializer_list<const char*> names, std::string_view in_profile) -> std::string {
    for (const char* name : names) {
      if (auto value = environment(name)) return *value;
    }
    const auto found = profile.find(in_profile);
    return found == profile.end() ? "" : found->second;
  };

  if (auto region = first({"AWS_REGION", "AWS_DEFAULT_REGION"}, "region"); !region.empty()) options.region = region;
  if (!has_only(options.region, "-_")) throw UsageError("AWS_REGION is not the name of a region");
  if (const auto id = environment("AWS_ACCESS_KEY_ID")) {
    options.credentials = {*id, environment("AWS_SECRET_ACCESS_KEY").value_or(""),
                           environment("AWS_SESSION_TOKEN").value_or("")};
  } else {
    options.credentials = {first({}, "aws_access_key_id"), first({}, "aws_secret_access_key"),
                           first({}, "aws_session_token")};
  }
  if (options.credentials.key_id.empty() || options.credentials.secret.empty()) {
    throw UsageError(
        "there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a "
        "profile of ~/.aws/credentials that has both");
  }

  options.endpoint = first({"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}, "endpoint_url");
  options.path_style = !options.endpoint.empty() || options.bucket.find('.') != std::string::npos;
  if (options.endpoint.empty()) {
    options.endpoint = fmt::format("https://{}s3.{}.amazonaws.com{}", options.path_style ? "" : options.bucket + ".",
                                   options.region, options.region.starts_with("cn-") ? ".cn" : "");
  }
  if (const auto endpoint = Endpoint::parse(options.endpoint); !endpoint) {
    throw UsageError(fmt::format("AWS_ENDPOINT_URL_S3: {}", endpoint.error().message));
  }
  return options;
}

}  // namespace penstock
