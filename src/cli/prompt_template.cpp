#include "cli/prompt_template.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace penstock {
namespace {
constexpr const char* kBraces = "a brace of the text itself is written twice: {{ or }}";
}

PromptTemplate::PromptTemplate(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    const std::size_t brace = text.find_first_of("{}");
    plain += text.substr(0, brace);
    if (brace == std::string_view::npos) break;
    text.remove_prefix(brace);
    if (text.starts_with("{{") || text.starts_with("}}")) {
      plain += text.front();
      text.remove_prefix(2);
      continue;
    }
    const std::size_t end = text.find_first_of("{}\n", 1);
    if (text.front() == '}' || end == std::string_view::npos || text[end] != '}' || end == 1) {
      throw UsageError(fmt::format("the template has a single brace at \"{}\": {{COLUMN}} names a column, and {}",
                                   text.substr(0, std::min(text.find('\n'), std::size_t{20})), kBraces));
    }
    pieces_.push_back({std::exchange(plain, {})});
    pieces_.push_back({std::string(text.substr(1, end - 1)), true});
    text.remove_prefix(end + 1);
  }
  pieces_.push_back({std::move(plain)});
}

void PromptTemplate::check(const std::vector<std::string>& columns, const std::string& file) const {
  for (const Piece& piece : pieces_) {
    if (piece.is_column && std::find(columns.begin(), columns.end(), piece.text) == columns.end()) {
      throw UsageError(fmt::format("{} has no column {}; it has: {}. In a template {}", file, piece.text,
                                   fmt::join(columns, ", "), kBraces));
    }
  }
}

std::string PromptTemplate::fill(const Row& row, const std::string& file) const {
  std::string filled;
  for (const Piece& piece : pieces_) {
    const Cell* const cell = piece.is_column ? row.find(piece.text) : nullptr;
    if (piece.is_column && !cell)
      throw UsageError(fmt::format("{} row {}: there is no {}", file, row.number, piece.text));
    filled += cell ? cell->text : piece.text;
  }
  return filled;
}

}  // namespace penstock
