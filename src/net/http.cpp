#include "net/http.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace penstock {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The byte of the escape that starts at `i`; nothing when it is malformed.
std::optional<char> unescape(std::string_view text, std::size_t i) {
  if (text.size() - i < 3) return std::nullopt;
  const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

std::string decode_form(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto escaped = text[i] == '%' ? unescape(text, i) : std::nullopt;
    out += escaped ? *escaped : text[i] == '+' ? ' ' : text[i];
    if (escaped) i += 2;
  }
  return out;
}

// All digits, at least one; a number past the end of any file is as good as the greatest.
std::optional<std::uint64_t> parse_offset(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || end != text.data() + text.size()) return std::nullopt;
  return error == std::errc() ? value : std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

std::optional<std::string_view> Headers::find(std::string_view name) const {
  for (const auto& [key, value] : items_) {
    if (same_name(key, name)) return value;
  }
  return std::nullopt;
}

Task<std::string> read_all(ByteSource& body, std::size_t size_max) {
  std::string all;
  while (true) {
    const std::string_view piece = co_await body.next();
    if (piece.empty()) co_return all;
    if (piece.size() > size_max - all.size()) {
      throw HttpError(413, "the body is larger than " + std::to_string(size_max) + " bytes");
    }
    all += piece;
  }
}

std::vector<std::string> query_params(std::string_view query, std::string_view name) {
  std::vector<std::string> values;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (decode_form(pair.substr(0, equals)) != name) continue;
    values.push_back(decode_form(pair.substr(std::min(equals + 1, pair.size()))));
  }
  return values;
}

std::optional<std::string> query_param(std::string_view query, std::string_view name) {
  const auto values = query_params(query, name);
  return values.empty() ? std::nullopt : std::optional(values.front());
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto escaped = text[i] == '%' ? unescape(text, i) : text[i];
    if (!escaped) return std::nullopt;
    if (text[i] == '%') i += 2;
    out += *escaped;
  }
  return out;
}

ByteRange parse_range(std::string_view header, std::uint64_t size) {
  constexpr std::string_view kUnit = "bytes=";
  if (!same_name(header.substr(0, kUnit.size()), kUnit)) return {};
  header.remove_prefix(kUnit.size());
  const std::size_t dash = header.find('-');
  if (dash == std::string_view::npos) return {};
  const std::string_view before = header.substr(0, dash), after = header.substr(dash + 1);

  using Kind = ByteRange::Kind;
  if (before.empty()) {  // the last so many
    const auto wanted = parse_offset(after);
    if (!wanted) return {};
    const std::uint64_t length = std::min(*wanted, size);
    if (length == 0) return {Kind::unsatisfiable};
    return {Kind::range, size - length, length};
  }
  const auto first = parse_offset(before);
  const auto last = after.empty() ? std::numeric_limits<std::uint64_t>::max() : parse_offset(after);
  if (!first || !last || *last < *first) return {};
  if (*first >= size) return {Kind::unsatisfiable};
  return {Kind::range, *first, std::min(*last, size - 1) - *first + 1};
}

}  // namespace penstock
