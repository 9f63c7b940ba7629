#pragma once
#include "net/http.h"

// Which pages of other origins browsers let call the API and read its answers (CORS, in the Fetch standard). `allowed`
// are their origins as of parse_origin(); while there are none nothing is said of it, and browsers let no page. A page
// has to bring a key of its own: nothing that a browser would add by itself lets anybody in.
namespace penstock {

// Whether it is a browser's question if a page may send a request, and the page's origin is one of `allowed`.
bool is_preflight(const Request& request, const std::vector<std::string>& allowed);
// That it may, with one of `methods`, which are parted by commas. It needs add_cors_headers() as all do.
Response preflight_response(std::string methods);

// To any answer.
void add_cors_headers(Response& response, const Request& request, const std::vector<std::string>& allowed);

}  // namespace penstock
