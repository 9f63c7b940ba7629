#include "api/origin.h"

#include <fmt/format.h>

#include <algorithm>

#include "net/endpoint.h"
#include "net/loopback.h"

namespace penstock {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  return out;
}

std::string_view without_scheme(std::string_view origin) {
  const auto scheme = origin.find("://");
  return scheme == std::string_view::npos ? origin : origin.substr(scheme + 3);
}

// HOST, HOST:PORT or [ADDRESS]:PORT.
bool is_this_machine(std::string_view authority) {
  const auto colon = authority.rfind(':');
  if (colon != std::string_view::npos && !authority.ends_with(']')) {
    if (authority.find_first_not_of("0123456789", colon + 1) != std::string_view::npos) return false;
    authority = authority.substr(0, colon);
  }
  const std::string name = lower(authority);
  return is_loopback(name) || name.ends_with(".localhost");  // browsers look no such name up: RFC 6761, section 6.3
}

}  // namespace

Result<std::string> parse_origin(std::string_view text) {
  const auto bad = [](std::string_view why) {
    return Error{Error::Kind::invalid_request, fmt::format("expected origins such as https://example.com; {}", why)};
  };
  if (text.find('*') != std::string_view::npos) {
    return bad("each has to be named, as with * any page that somebody here opens could call this server");
  }
  if (!text.starts_with("http://") && !text.starts_with("https://")) return bad("one begins with http:// or https://");
  if (without_scheme(text).find('/') != std::string_view::npos) return bad("one has no path, and no / at its end");
  const auto endpoint = Endpoint::parse(text);
  if (!endpoint) return endpoint.error();
  const bool usual = endpoint->port == (endpoint->tls ? "443" : "80");
  return fmt::format("{}://{}{}{}", endpoint->tls ? "https" : "http", lower(endpoint->host), usual ? "" : ":",
                     usual ? "" : endpoint->port);
}

std::optional<Error> refuse_foreign(std::optional<std::string_view> host, std::optional<std::string_view> origin,
                                    const std::vector<std::string>& allowed) {
  constexpr std::string_view kWhatToDo =
      "make a key with penstock keys create, or let everybody do everything with penstock serve --insecure.";
  if (host && !is_this_machine(*host)) {
    return Error{Error::Kind::forbidden,
                 fmt::format("Without API keys this server answers only who calls it by a name of this machine, such "
                             "as localhost. To call it by another, {}",
                             kWhatToDo),
                 "foreign_host"};
  }
  const bool same = origin && host && lower(without_scheme(*origin)) == lower(*host);
  if (origin && !same && std::find(allowed.begin(), allowed.end(), *origin) == allowed.end()) {
    return Error{Error::Kind::forbidden,
                 fmt::format("Without API keys this server answers no page of another site. To let one in, name its "
                             "origin in cors_origins, {}",
                             kWhatToDo),
                 "foreign_origin"};
  }
  return std::nullopt;
}

}  // namespace penstock
