#pragma once
#include <cstdint>
#include <filesystem>
#include <istream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

struct Cell {
  std::string column;
  std::string text;       // for a template: of a JSON value that is no string its JSON, of null nothing
  std::string json = {};  // a JSON value as it was written; empty: it is the text
};

struct Row {
  std::int64_t number = 0;  // as spreadsheets and editors count; the header of a CSV is row 1
  std::vector<Cell> cells;

  const Cell* find(std::string_view column) const;  // null: it has no such cell
};

// Rows of a file that people or their programs made, one after another, so that memory does not grow with them:
//   .csv, .tsv         RFC 4180, with a header; what separates the cells of a .csv (, ; or tab) is seen in the header
//   .jsonl, .ndjson    an object a line, whose members are its cells
//   .txt               a prompt a line, the cell `text`
// A byte order mark is skipped, and so are blank lines; text must be UTF-8. No cell and no line has more than 16 MiB.
class TableReader {
 public:
  virtual ~TableReader() = default;

  // False when there are no more. Throws UsageError: what is wrong in which row of which file.
  virtual bool next(Row& row) = 0;

  // Those of every row, where the file has a header or is plain text; else nothing.
  virtual const std::vector<std::string>& columns() const = 0;
  // What separates the cells, where something does; else ','.
  virtual char delimiter() const { return ','; }
};

enum class TableFormat { csv, tsv, jsonl, text };
// By the name's end; nothing when it has none of those above.
std::optional<TableFormat> table_format(const std::filesystem::path& path);

// Throws UsageError when it cannot be read, or its name does not tell what it is.
std::unique_ptr<TableReader> open_table(const std::filesystem::path& path);
// `name` is what errors call it.
std::unique_ptr<TableReader> read_table(std::unique_ptr<std::istream> in, const std::string& name, TableFormat format);

}  // namespace penstock
