#include <fmt/format.h>

#include <algorithm>

#include "delivery/sink.h"
#include "sql/connection.h"

namespace penstock {
namespace {

constexpr std::size_t kGroupLines = 500, kGroupSize = 4 << 20;

std::string identifier(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

// "schema.table" or "table".
std::string table_name(std::string_view table) {
  const auto dot = table.find('.');
  if (dot == std::string_view::npos) return identifier(table);
  return identifier(table.substr(0, dot)) + "." + identifier(table.substr(dot + 1));
}

// All rows are one parameter, a JSON array of objects, and PostgreSQL makes of each value what its column's type is.
std::string statement_of(const PostgresSinkOptions& options) {
  std::string columns, key, changes;
  const auto add = [](std::string& list, const std::string& item) { list += (list.empty() ? "" : ", ") + item; };
  for (const auto& column : options.columns) {
    const std::string name = identifier(column.name);
    add(columns, name);
    const bool is_key = std::find(options.key.begin(), options.key.end(), column.name) != options.key.end();
    if (!is_key) add(changes, fmt::format("{0} = EXCLUDED.{0}", name));
  }
  for (const auto& name : options.key) add(key, identifier(name));
  const std::string table = table_name(options.table);
  return fmt::format(
      "INSERT INTO {0} ({1}) SELECT {1} FROM json_populate_recordset(NULL::{0}, $1::text::json) ON CONFLICT ({2}) DO "
      "{3}",
      table, columns, key, changes.empty() ? "NOTHING" : "UPDATE SET " + changes);
}

// PostgreSQL's text has no NUL: each escape of one becomes one of U+FFFD.
void replace_nuls(std::string& json) {
  for (std::size_t at = 0; (at = json.find('\\', at)) != std::string::npos; at += 2) {
    if (json.compare(at, 6, "\\u0000") == 0) json.replace(at, 6, "\\ufffd");
  }
}

class PostgresSink final : public Sink {
 public:
  PostgresSink(asio::thread_pool& pool, PostgresSinkOptions options)
      : pool_(pool), options_(std::move(options)), statement_(statement_of(options_)) {}

  Task<Outcome> bring(const SinkAttempt& attempt) override {
    LineMapping mapping = LineMapping::make(options_.columns).value();
    const auto connection = co_await blocking(pool_, [&] { return sql::open_postgres(options_.url); });
    auto position = static_cast<std::uint64_t>(attempt.delivery.position);
    while (position < attempt.results->size()) {
      position += co_await blocking(pool_, [&] { return insert(*connection, *attempt.results, position, mapping); });
      const bool goes_on = co_await attempt.progress.note(static_cast<std::int64_t>(position));
      if (!goes_on) co_return broken_off();
    }
    co_return Outcome{};
  }

 private:
  // One statement, so all of the group's rows or none. Returns the size of its lines.
  std::size_t insert(sql::Connection& connection, const Results& results, std::uint64_t position,
                     LineMapping& mapping) const {
    const std::string lines = results.lines(position, kGroupLines, kGroupSize);
    std::string rows;
    for (const std::string_view line : split_into_lines(lines)) {
      rows += rows.empty() ? '[' : ',';
      mapping.append(rows, line);
    }
    replace_nuls(rows += ']');
    connection.execute(statement_, {rows});
    return lines.size();
  }

  asio::thread_pool& pool_;
  const PostgresSinkOptions options_;
  const std::string statement_;
};

}  // namespace

std::unique_ptr<Sink> make_postgres_sink(asio::thread_pool& pool, PostgresSinkOptions options) {
  return std::make_unique<PostgresSink>(pool, std::move(options));
}

}  // namespace penstock
