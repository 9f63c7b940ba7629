#include "batch/answer_lengths.h"

#include <algorithm>
#include <bit>
#include <charconv>

namespace penstock {
namespace {

std::size_t power(std::uint64_t value) {
  return static_cast<std::size_t>(std::bit_width(value)) % 64;
}

}  // namespace

std::int64_t output_tokens_max(std::string_view body) {
  // An x is what a text has fewest of.
  constexpr std::string_view kBefore = "\"ma", kStart = "x_";
  for (auto at = body.find(kStart); at != body.npos; at = body.find(kStart, at + kStart.size())) {
    if (!body.substr(0, at).ends_with(kBefore)) continue;
    const std::string_view rest = body.substr(at + kStart.size());
    const auto key = rest.substr(0, rest.find('"'));
    if (key != "tokens" && key != "completion_tokens" && key != "output_tokens") continue;
    auto value = rest.substr(std::min(rest.size(), key.size() + 1));
    value.remove_prefix(std::min(value.size(), value.find_first_not_of(" \t\r\n:")));
    std::int64_t tokens = 0;
    std::from_chars(value.data(), value.data() + value.size(), tokens);
    if (tokens > 0) return tokens;
  }
  return 0;
}

void AnswerLengths::add(std::int64_t output_max, std::size_t size, std::int64_t output_tokens) {
  const auto tokens = static_cast<double>(output_tokens);
  if (output_max > 0) {
    by_limit_[power(static_cast<std::uint64_t>(output_max))].add(tokens / static_cast<double>(output_max));
  } else {
    by_size_[power(size)].add(tokens);
    all_.add(tokens);
  }
}

double AnswerLengths::expect(std::int64_t output_max, std::size_t size) const {
  if (output_max > 0) {
    const Mean& share = by_limit_[power(static_cast<std::uint64_t>(output_max))];
    return static_cast<double>(output_max) * (share.count > 0 ? share.sum / share.count : 1.0);
  }
  const Mean& near = by_size_[power(size)];
  if (near.count > 0) return near.sum / near.count;
  return all_.count > 0 ? all_.sum / all_.count : 1.0;
}

}  // namespace penstock
