#include "model/output_line.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "model/wire.h"

namespace penstock {
namespace {

constexpr std::string_view kIdBefore = R"({"id":"batch_req_)";
constexpr std::size_t kIndexDigits = 8;

// Outside strings a newline is blank space, and inside strings JSON has none: dropping it changes no value.
void append_without_newlines(std::string& out, std::string_view text) {
  while (true) {
    const auto at = std::min(text.find('\n'), text.find('\r'));
    out += text.substr(0, at);
    if (at == std::string_view::npos) return;
    text.remove_prefix(at + 1);
  }
}

// Of header bytes, which may be anything: whether they can stand in JSON as they are.
bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

// Removes what must come next; false when something else does.
bool skip(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

// Takes a JSON string off the front, with its quotes; empty when there is none.
std::string_view take_string(std::string_view& text) {
  if (!text.starts_with('"')) return {};
  std::size_t end = 1;
  while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return {};
  const std::string_view string = text.substr(0, end + 1);
  text.remove_prefix(end + 1);
  return string;
}

}  // namespace

void append_output_line(std::string& out, const BatchId& batch, std::uint32_t index, std::string_view custom_id_json,
                        const LineOutcome& outcome) {
  std::string_view hex = batch.value;
  hex.remove_prefix(hex.find('_') + 1);
  fmt::format_to(std::back_inserter(out), R"({}{}{:08x}","custom_id":{},"response":)", kIdBefore, hex, index,
                 custom_id_json);
  if (outcome.status == 0) {
    fmt::format_to(std::back_inserter(out), "null,\"error\":{{\"code\":{},\"message\":{}}}}}\n",
                   wire::quoted(outcome.error_code), wire::quoted(outcome.error_message));
    return;
  }
  fmt::format_to(std::back_inserter(out), R"({{"status_code":{},"request_id":)", outcome.status);
  if (outcome.request_id.empty() || !printable(outcome.request_id)) {
    fmt::format_to(std::back_inserter(out), R"("req_{}{:08x}")", hex, index);
  } else {
    out += wire::quoted(outcome.request_id);
  }
  out += R"(,"body":)";
  append_without_newlines(out, outcome.body);
  out += "},\"error\":null}\n";
}

std::optional<std::uint32_t> output_line_index(std::string_view line) {
  if (!line.starts_with(kIdBefore)) return std::nullopt;
  line.remove_prefix(kIdBefore.size());
  const auto end = line.find('"');
  if (end == std::string_view::npos || end < kIndexDigits) return std::nullopt;
  const std::string_view digits = line.substr(end - kIndexDigits, kIndexDigits);
  std::uint32_t index = 0;
  const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index, 16);
  if (error != std::errc{} || last != digits.data() + digits.size()) return std::nullopt;
  return index;
}

std::optional<OutputLineParts> cut_output_line(std::string_view line) {
  OutputLineParts parts;
  if (!skip(line, R"({"id":)") || take_string(line).empty() || !skip(line, R"(,"custom_id":)")) return std::nullopt;
  parts.custom_id_json = take_string(line);
  if (parts.custom_id_json.empty() || !skip(line, R"(,"response":)")) return std::nullopt;
  if (skip(line, R"(null,"error":)")) {
    if (!line.ends_with("}\n")) return std::nullopt;
    parts.error = line.substr(0, line.size() - 2);
    return parts;
  }
  constexpr std::string_view end = "},\"error\":null}\n";
  if (!skip(line, R"({"status_code":)") || !line.ends_with(end)) return std::nullopt;
  line.remove_suffix(end.size());
  const auto [digits_end, error] = std::from_chars(line.data(), line.data() + line.size(), parts.status);
  line.remove_prefix(static_cast<std::size_t>(digits_end - line.data()));
  if (error != std::errc{} || !skip(line, R"(,"request_id":)")) return std::nullopt;
  parts.request_id_json = take_string(line);
  if (parts.request_id_json.empty() || !skip(line, R"(,"body":)")) return std::nullopt;
  parts.body = line;
  return parts;
}

}  // namespace penstock
