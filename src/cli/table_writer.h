#pragma once
#include <string>
#include <vector>

#include "base/output_file.h"
#include "cli/table_reader.h"

namespace penstock {

// Writes rows as a CSV or TSV, with a header, or as a JSONL of objects. Lines end in \n.
class TableWriter {
 public:
  struct Style {
    char delimiter = ',';
    // For people who open the CSV in Excel: a byte order mark, without which it takes the text for Latin-1, and an
    // apostrophe before what would be a formula, so that a text of strangers cannot run as one.
    bool excel = false;
  };
  // `columns` are those of a CSV or TSV; an object has the cells that its row has.
  TableWriter(OutputFile& file, TableFormat format, const std::vector<std::string>& columns, Style style);

  void write(const Row& row);

 private:
  void write_line(const std::vector<std::string_view>& texts);

  OutputFile& file_;
  const TableFormat format_;
  const std::vector<std::string> columns_;
  const Style style_;
  std::string line_;
};

}  // namespace penstock
