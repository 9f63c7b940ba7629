#pragma once
#include <string_view>
#include <vector>

// The dashboard, as scripts/web.sh made it and CMake put it into the program.
namespace penstock {

struct Asset {
  std::string_view path;   // "/index.html", "/assets/…"
  std::string_view bytes;  // as it is
  std::string_view gzip;   // the same compressed; empty where that makes it no smaller
};
// None in a program that was built without them.
const std::vector<Asset>& assets();

// Whether an `Accept-Encoding` allows gzip (RFC 9110 section 12.5.3).
bool accepts_gzip(std::string_view header);
// Whether an `If-None-Match` names this entity tag, which is a weak one (RFC 9110 section 13.1.2).
bool names_etag(std::string_view header, std::string_view etag);

}  // namespace penstock
