#include "cli/table_writer.h"

#include <charconv>

#include "model/wire.h"

namespace penstock {
namespace {

bool is_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// What spreadsheets take for a formula, also behind a tab or a carriage return.
bool is_formula(std::string_view text) {
  return !text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos && !is_number(text);
}

void append_cell(std::string& out, std::string_view text, char delimiter, bool excel) {
  const char special[] = {delimiter, '"', '\n', '\r'};
  const bool quoted = text.find_first_of(std::string_view(special, sizeof special)) != std::string_view::npos;
  if (quoted) out += '"';
  if (excel && is_formula(text)) out += '\'';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  if (quoted) out += '"';
}

}  // namespace

TableWriter::TableWriter(OutputFile& file, TableFormat format, const std::vector<std::string>& columns, Style style)
    : file_(file), format_(format), columns_(columns), style_(style) {
  if (format_ == TableFormat::jsonl) return;
  if (style_.excel) file_.write("\xEF\xBB\xBF");
  write_line({columns_.begin(), columns_.end()});
}

void TableWriter::write(const Row& row) {
  if (format_ == TableFormat::jsonl) {
    line_.assign(1, '{');
    for (const Cell& cell : row.cells) {
      if (line_.size() > 1) line_ += ',';
      line_ += wire::quoted(cell.column);
      line_ += ':';
      line_ += cell.json.empty() ? wire::quoted(cell.text) : cell.json;
    }
    line_ += "}\n";
    file_.write(line_);
    return;
  }
  std::vector<std::string_view> texts;
  for (const std::string& column : columns_) {
    const Cell* const cell = row.find(column);
    texts.push_back(cell ? std::string_view(cell->text) : std::string_view());
  }
  write_line(texts);
}

void TableWriter::write_line(const std::vector<std::string_view>& texts) {
  line_.clear();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) line_ += style_.delimiter;
    append_cell(line_, texts[i], style_.delimiter, style_.excel);
  }
  // A row that is blank is no row to who reads it.
  if (line_.empty()) line_ = R"("")";
  line_ += '\n';
  file_.write(line_);
}

}  // namespace penstock
