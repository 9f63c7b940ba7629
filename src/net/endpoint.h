#pragma once
#include <string>
#include <string_view>

#include "base/error.h"

namespace penstock {

// Where requests go. `http://host:port/base`, `https://…`, or `unix:/path/to.sock`.
struct Endpoint {
  bool tls = false;
  std::string host;  // also the Host header
  std::string port;
  std::string unix_path;  // non-empty: a unix socket, and host is "localhost"
  std::string base_path;  // "" or "/v1", without a final slash

  static Result<Endpoint> parse(std::string_view url);
};

// A URL that is called as it is, http or https, with a path and a query of its own.
struct CallUrl {
  Endpoint endpoint;   // without a base path
  std::string target;  // begins with '/'

  static Result<CallUrl> parse(std::string_view url);
};

}  // namespace penstock
