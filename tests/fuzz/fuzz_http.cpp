// The small texts of a request. Input: the size of a file in the first line; then a Range header; then the name of a
// query parameter; then a query.
#include <limits>

#include "fuzz.h"
#include "net/http.h"

namespace penstock {
namespace {

// Digits and nothing else; what is past 64 bits counts as the greatest number of them.
std::optional<std::uint64_t> number(std::string_view digits) {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  if (digits.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    const auto digit = static_cast<std::uint64_t>(c - '0');
    value = value > (kMax - digit) / 10 ? kMax : value * 10 + digit;
  }
  return value;
}

// RFC 9110 section 14.1.2 for one range, by the first and the last byte that it means.
ByteRange expected_range(std::string_view header, std::uint64_t size) {
  using Kind = ByteRange::Kind;
  if (header.size() < 6 || header[5] != '=') return {};
  for (int i = 0; i < 5; ++i) {
    if ((header[i] | 0x20) != "bytes"[i]) return {};
  }
  header.remove_prefix(6);
  const std::size_t dash = std::min(header.find('-'), header.size());
  const auto left = number(header.substr(0, dash)), right = number(header.substr(std::min(dash + 1, header.size())));
  const bool left_empty = dash == 0, right_empty = dash + 1 >= header.size();
  if (dash == header.size() || (!left && !left_empty) || (!right && !right_empty) || (!left && !right)) return {};
  if (left && right && *left > *right) return {};
  if (size == 0) return {Kind::unsatisfiable};

  if (!left) {
    if (*right == 0) return {Kind::unsatisfiable};
    const std::uint64_t first = *right >= size ? 0 : size - *right;
    return {Kind::range, first, size - first};
  }
  if (*left > size - 1) return {Kind::unsatisfiable};
  const std::uint64_t last = right && *right < size - 1 ? *right : size - 1;
  return {Kind::range, *left, last - *left + 1};
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += {'%', "0123456789abcdef"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
  }
  return out;
}

void check_range(std::string_view header, std::uint64_t size) {
  const ByteRange range = parse_range(header, size), expected = expected_range(header, size);
  require(range.kind == expected.kind, "a Range header means what RFC 9110 says");
  if (range.kind != ByteRange::Kind::range) return;
  require(range.first == expected.first && range.length == expected.length, "the range is the one asked for");
  require(range.length > 0 && range.first < size && range.length <= size - range.first, "the range lies in the file");
}

void check_query(std::string_view name, std::string_view query) {
  const auto path = percent_decode(query);
  require(path || query.find('%') != std::string_view::npos, "only a percent sign can be malformed");
  if (path && query.find('%') == std::string_view::npos)
    require(*path == query, "the rest of a path stands for itself");
  require(percent_decode(percent_encoded(query)) == query, "every text survives its encoding");

  const std::string pair = percent_encoded(name) + "=" + percent_encoded(query);
  require(query_param(pair, name) == query, "a parameter is found");
  require(query_param(pair + "&" + std::string(query), name) == query, "the first one counts");
  const auto value = query_param(query, name);
  const auto behind = query_param("x" + percent_encoded(name) + "=1&" + std::string(query), name);
  require(value == behind, "another parameter in front changes nothing");
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  std::string_view query(reinterpret_cast<const char*>(data), size);
  const std::string_view file_size = take_line(query), range = take_line(query), name = take_line(query);
  check_range(range, number(file_size).value_or(0));
  check_query(name, query);
  return 0;
}
