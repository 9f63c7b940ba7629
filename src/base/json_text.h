#pragma once
#include <string>
#include <string_view>

namespace penstock {

// Appends a JSON string, quotes included (RFC 8259 section 7). Of bytes that are no UTF-8 each is replaced by U+FFFD.
void append_json_string(std::string& out, std::string_view text);

}  // namespace penstock
