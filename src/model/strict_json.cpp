#include "model/strict_json.h"

#include <algorithm>
#include <cctype>

namespace penstock {
namespace {

bool digit(char c) {
  return c >= '0' && c <= '9';
}

// The end of the number that starts at `i` (RFC 8259 section 6), or `i` when there is none.
std::size_t number_end(std::string_view s, std::size_t i) {
  const std::size_t start = i;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < s.size() && digit(s[i])) ++i;
    return i > from;
  };
  if (i < s.size() && s[i] == '-') ++i;
  if (i < s.size() && s[i] == '0') {
    ++i;
  } else if (!digits()) {
    return start;
  }
  if (i < s.size() && s[i] == '.') {
    ++i;
    if (!digits()) return start;
  }
  if (i < s.size() && (s[i] == 'e' || s[i] == 'E')) {
    ++i;
    if (i < s.size() && (s[i] == '+' || s[i] == '-')) ++i;
    if (!digits()) return start;
  }
  return i;
}

// The same text with every well-formed number replaced by 0 and blanks: the parser refuses numbers past 64 bits, which
// clients send as seeds and which travel unchanged.
std::string with_plain_numbers(std::string_view text) {
  std::string out(text);
  bool in_string = false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char c = out[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '-' || digit(c)) {
      const std::size_t end = number_end(text, i);
      if (end == i) break;  // the parser refuses this text; the rest of a malformed number could look like one
      out[i] = '0';
      std::fill(out.begin() + static_cast<std::ptrdiff_t>(i) + 1, out.begin() + static_cast<std::ptrdiff_t>(end), ' ');
      i = end - 1;
    }
  }
  return out;
}

}  // namespace

bool StrictJson::parse(std::string_view text, simdjson::dom::element& out) {
  if (text.size() > capacity_) {
    capacity_ = std::max<std::size_t>(2 * text.size(), 4096);
    if (parser_.allocate(capacity_, kJsonDepthMax + 1)) throw std::bad_alloc();  // it refuses its limit itself
  }
  auto error = parser_.parse(text.data(), text.size(), false).get(out);
  if (error == simdjson::NUMBER_ERROR) {
    plain_ = with_plain_numbers(text);
    const std::size_t size = plain_.size();
    plain_.resize(size + simdjson::SIMDJSON_PADDING);
    error = parser_.parse(plain_.data(), size, false).get(out);
  }
  return !error;
}

}  // namespace penstock
