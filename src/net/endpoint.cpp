#include "net/endpoint.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {
namespace {

Error no_url(std::string_view url, std::string_view why) {
  return {Error::Kind::invalid_request, fmt::format("\"{}\" is no usable URL: {}", url, why)};
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view url) {
  const auto bad = [url](std::string_view why) { return no_url(url, why); };
  if (std::any_of(url.begin(), url.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; })) {
    return bad("it has a blank or a control character");
  }
  Endpoint endpoint;
  if (url.starts_with("unix:")) {
    endpoint.host = "localhost";
    endpoint.unix_path = url.substr(5);
    if (endpoint.unix_path.empty()) return bad("the path is missing");
    if (endpoint.unix_path.size() > 107) return bad("the path of a unix socket has at most 107 characters");
    return endpoint;
  }
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    endpoint.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return bad("it begins with neither http:// nor https:// nor unix:");
  }
  const std::size_t path = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, path);
  rest.remove_prefix(path);
  if (rest.find_first_of("?#") != std::string_view::npos || authority.find_first_of("?#") != std::string_view::npos) {
    return bad("it has a query or a fragment");
  }
  if (authority.find('@') != std::string_view::npos) return bad("it has a user name");
  while (rest.ends_with('/')) rest.remove_suffix(1);
  endpoint.base_path = rest;

  std::size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {
    const std::size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos) return bad("a bracket is missing");
    endpoint.host = authority.substr(0, bracket + 1);
    if (bracket + 1 < authority.size() && authority[bracket + 1] != ':') return bad("text behind the bracket");
    colon = bracket + 1 < authority.size() ? bracket + 1 : std::string_view::npos;
  } else {
    endpoint.host = authority.substr(0, colon);
  }
  if (endpoint.host.empty() || endpoint.host == "[]") return bad("the host is missing");
  if (endpoint.host.find(':') != std::string::npos && !endpoint.host.starts_with('[')) {
    return bad("an IPv6 address needs brackets");
  }
  endpoint.port = endpoint.tls ? "443" : "80";
  if (colon != std::string_view::npos) endpoint.port = authority.substr(colon + 1);
  const bool digits =
      std::all_of(endpoint.port.begin(), endpoint.port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || endpoint.port.empty() || endpoint.port.size() > 5 || std::stoi(endpoint.port) > 65535 ||
      std::stoi(endpoint.port) == 0) {
    return bad("the port is not a number from 1 to 65535");
  }
  return endpoint;
}

Result<CallUrl> CallUrl::parse(std::string_view url) {
  if (!url.starts_with("http://") && !url.starts_with("https://")) {
    return no_url(url, "it begins with neither http:// nor https://");
  }
  if (url.find('#') != std::string_view::npos) return no_url(url, "it has a fragment");
  if (std::any_of(url.begin(), url.end(), [](char c) {
        return static_cast<unsigned char>(c) <= ' ' || static_cast<unsigned char>(c) >= 0x7f;
      })) {
    return no_url(url, "it has a blank, or another character that has to be percent-encoded");
  }
  const std::size_t target = std::min(url.find_first_of("/?", url.find("://") + 3), url.size());
  auto endpoint = Endpoint::parse(url.substr(0, target));
  if (!endpoint) return endpoint.error();
  CallUrl call{std::move(*endpoint), std::string(url.substr(target))};
  if (!call.target.starts_with('/')) call.target.insert(0, "/");
  return call;
}

}  // namespace penstock
