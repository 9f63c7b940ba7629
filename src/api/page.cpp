#include "api/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "api/views.h"
#include "base/hash.h"

namespace penstock {
namespace {

constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

constexpr std::string_view kNoPage = R"(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Penstock</title>
<h1>Penstock</h1>
<p>This server runs, and was built without its dashboard. To get that, run <code>scripts/web.sh</code>, then build again.
<p>What its API can do stands in <a href="/openapi.json">/openapi.json</a>.
</html>
)";

std::string_view type_of(std::string_view path) {
  static const std::map<std::string_view, std::string_view> types = {{"html", "text/html; charset=utf-8"},
                                                                     {"js", "text/javascript; charset=utf-8"},
                                                                     {"css", "text/css; charset=utf-8"},
                                                                     {"svg", "image/svg+xml"}};
  const auto type = types.find(path.substr(path.rfind('.') + 1));
  return type == types.end() ? "application/octet-stream" : type->second;
}

std::string etag_of(std::string_view bytes) {
  StreamHash hash;
  hash.add(bytes);
  return fmt::format("W/\"{}\"", hash.hex());
}

struct Entry {
  Asset asset;
  std::string etag;
};

// By the path of the request.
const std::map<std::string_view, Entry>& entries() {
  static const auto all = [] {
    std::map<std::string_view, Entry> made = {{"/", {{"/index.html", kNoPage, {}}, etag_of(kNoPage)}}};
    for (const Asset& asset : assets()) {
      made[asset.path == "/index.html" ? "/" : asset.path] = {asset, etag_of(asset.bytes)};
    }
    return made;
  }();
  return all;
}

// The parts of a comma-separated header, for as long as `each` does not say true; whether it has.
template <class Each>
bool any_item(std::string_view header, Each each) {
  while (!header.empty()) {
    const std::size_t comma = std::min(header.find(','), header.size());
    std::string_view item = header.substr(0, comma);
    header.remove_prefix(std::min(comma + 1, header.size()));
    const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!item.empty() && is_blank(item.front())) item.remove_prefix(1);
    while (!item.empty() && is_blank(item.back())) item.remove_suffix(1);
    if (each(item)) return true;
  }
  return false;
}

}  // namespace

bool accepts_gzip(std::string_view header) {
  return any_item(header, [](std::string_view item) {
    std::string words;
    for (const char c : item) {
      if (c != ' ' && c != '\t') words += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    const std::size_t end = std::min(words.find(';'), words.size());
    const bool is_refused =
        words.substr(end).starts_with(";q=0") && words.find_first_of("123456789", end) == words.npos;
    return words.substr(0, end) == "gzip" && !is_refused;
  });
}

bool names_etag(std::string_view header, std::string_view etag) {
  const std::string_view strong = etag.substr(2);  // without W/: what it is behind does not count here
  return any_item(header, [&](std::string_view item) { return item == "*" || item == etag || item == strong; });
}

Task<Response> get_page(Context& c) {
  const auto found = entries().find(c.request.path);
  if (found == entries().end()) {
    co_return error_response(
        {Error::Kind::not_found, fmt::format("The dashboard of this server has no {}.", c.request.path)});
  }
  const auto& [asset, etag] = found->second;
  Response response;
  response.headers.add("ETag", etag);
  response.headers.add("Vary", "Accept-Encoding");
  // The names of assets have a hash of what is in them.
  response.headers.add("Cache-Control",
                       c.request.path.starts_with("/assets/") ? "public, max-age=31536000, immutable" : "no-cache");
  response.headers.add("Content-Security-Policy", std::string(kPolicy));
  if (names_etag(c.request.headers.find("If-None-Match").value_or(""), etag)) {
    response.status = 304;
    co_return response;
  }
  response.headers.add("Content-Type", std::string(type_of(asset.path)));
  const bool compressed = !asset.gzip.empty() && accepts_gzip(c.request.headers.find("Accept-Encoding").value_or(""));
  if (compressed) response.headers.add("Content-Encoding", "gzip");
  response.body = compressed ? asset.gzip : asset.bytes;
  co_return response;
}

}  // namespace penstock
