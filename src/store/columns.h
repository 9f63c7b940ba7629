#pragma once
#include <optional>
#include <string>

#include "base/clock.h"
#include "sql/connection.h"

// Between our types and the values of a row. For the store's own sources.
namespace penstock {

// The statuses of a batch that has not ended, in the words of the index batches_unfinished: a query that names them so
// is answered from it.
#define PENSTOCK_UNFINISHED "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"

// In the words of the indices spans_open and spans_free.
#define PENSTOCK_OPEN "entries > completed + failed"

inline std::int64_t to_ms(Timestamp time) {
  return time.time_since_epoch().count();
}
inline Timestamp from_ms(std::int64_t ms) {
  return Timestamp(Millis(ms));
}

inline sql::Value value_of(const std::optional<Timestamp>& time) {
  return time ? sql::Value(to_ms(*time)) : sql::Value(nullptr);
}
inline sql::Value value_of(const std::optional<std::int64_t>& number) {
  return number ? sql::Value(*number) : sql::Value(nullptr);
}
inline sql::Value value_of(const std::optional<std::string>& text) {
  return text ? sql::Value(std::string_view(*text)) : sql::Value(nullptr);
}

inline std::optional<Timestamp> time_at(const sql::Row& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return from_ms(row.integer(column));
}
inline std::optional<std::int64_t> integer_at(const sql::Row& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return row.integer(column);
}
inline std::optional<std::string> text_at(const sql::Row& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return std::string(row.text(column));
}

}  // namespace penstock
