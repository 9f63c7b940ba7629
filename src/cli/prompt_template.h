#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "cli/table_reader.h"

namespace penstock {

// A text with {column} where a row's cell is to stand. {{ and }} are braces.
class PromptTemplate {
 public:
  // Throws UsageError: what is wrong in it.
  explicit PromptTemplate(std::string_view text);

  // Throws UsageError when a column that it names is not among these.
  void check(const std::vector<std::string>& columns, const std::string& file) const;
  // The same when the row has no such cell.
  std::string fill(const Row& row, const std::string& file) const;

 private:
  struct Piece {
    std::string text;
    bool is_column = false;
  };
  std::vector<Piece> pieces_;
};

}  // namespace penstock
