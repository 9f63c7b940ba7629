#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

// What commands print for people.
namespace penstock {

// Rows of cells in columns as wide as they need, the first row being the heads, to standard output.
void print_table(const std::vector<std::vector<std::string>>& rows);
std::vector<std::string> table_lines(const std::vector<std::vector<std::string>>& rows);

// In UTC. "-" for no time.
std::string time_text(const std::optional<Timestamp>& time);

// Text that came from elsewhere, fit for a terminal: what could steer that becomes '?'.
std::string shown(std::string_view text);

// How many columns of a terminal it takes, but for letters that take two.
std::size_t columns_of(std::string_view utf8);
// Its beginning, so that it takes no more than that.
std::string_view cut(std::string_view utf8, std::size_t columns);

}  // namespace penstock
