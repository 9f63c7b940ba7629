#include "client/table.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

namespace penstock {
namespace {

bool begins_letter(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

}  // namespace

std::vector<std::string> table_lines(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string& line = lines.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - columns_of(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
  }
  return lines;
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  for (const std::string& line : table_lines(rows)) fmt::print("{}\n", line);
}

std::string time_text(const std::optional<Timestamp>& time) {
  if (!time) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(std::chrono::system_clock::to_time_t(*time)));
}

std::string shown(std::string_view text) {
  std::string fit;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    const bool steers = byte < 0x20 || byte == 0x7f || c1;
    fit += steers ? '?' : text[i];
    if (c1) ++i;
  }
  return fit;
}

std::size_t columns_of(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), begins_letter));
}

std::string_view cut(std::string_view utf8, std::size_t columns) {
  std::size_t end = 0;
  for (std::size_t n = 0; end < utf8.size(); ++end) {
    if (begins_letter(utf8[end]) && n++ == columns) break;
  }
  return utf8.substr(0, end);
}

}  // namespace penstock
