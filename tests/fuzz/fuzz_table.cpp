// A table of prompts. Input: a line that names its format, then the file.
#include <memory>
#include <sstream>

#include "base/error.h"
#include "cli/table_reader.h"
#include "fuzz.h"

namespace penstock {
namespace {

using Rows = std::vector<std::vector<std::pair<std::string, std::string>>>;

Rows read(const std::string& text, TableFormat format) {
  const auto table = read_table(std::make_unique<std::istringstream>(text), "it", format);
  Rows rows;
  std::int64_t number = 0;
  for (Row row; table->next(row);) {
    require(row.number > number, "rows are counted");
    number = row.number;
    auto& cells = rows.emplace_back();
    for (const Cell& cell : row.cells) cells.emplace_back(cell.column, cell.text);
  }
  return rows;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string(2, c) : std::string(1, c);
  return out + '"';
}

std::string csv(const Rows& rows) {
  std::string header, text;
  for (const auto& [column, cell] : rows.front()) header += (header.empty() ? "" : ",") + quoted(column);
  for (const auto& row : rows) {
    std::string line;
    for (const auto& [column, cell] : row) line += (line.empty() ? "" : ",") + quoted(cell);
    text += line + '\n';
  }
  return header + '\n' + text;
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto format = table_format(std::string(take_line(bytes)));
  if (!format) return 0;
  Rows rows;
  try {
    rows = read(std::string(bytes), *format);
  } catch (const UsageError&) {
    return 0;
  }
  if (rows.empty() || *format == TableFormat::jsonl) return 0;
  require(read(csv(rows), TableFormat::csv) == rows, "what was read can be written and read again");
  return 0;
}
