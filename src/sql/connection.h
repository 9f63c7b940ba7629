#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

// The seam below Store: the same statements, with `$1`, `$2` … as parameters, run on every driver.
namespace penstock::sql {

// Bytes, as opposed to text.
struct Blob {
  std::string_view bytes;
};

// What a parameter may be; views must stay valid during the call.
using Value = std::variant<std::nullptr_t, std::int64_t, std::string_view, Blob>;

// One row of a result, valid during the callback that gets it. Columns count from 0. Reading a column as another type
// than it has throws Failure.
class Row {
 public:
  virtual ~Row() = default;
  virtual bool is_null(int column) const = 0;
  virtual std::int64_t integer(int column) const = 0;
  virtual std::string_view text(int column) const = 0;  // of a blob: its bytes
};

// The database is away, full or broken, or a statement is wrong.
class Failure : public std::runtime_error {
 public:
  enum class Kind { other, no_space, io, busy };
  Failure(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

// One session with a database; one thread at a time. All functions throw Failure.
class Connection {
 public:
  virtual ~Connection() = default;

  // Several statements without parameters.
  virtual void execute_script(std::string_view statements) = 0;

  // One statement; it is prepared once a connection and kept. `each` sees every row, and runs no statement itself: a
  // driver may be reading the rows from the network. Returns how many rows were changed (for statements that change
  // rows).
  virtual std::int64_t execute(std::string_view statement, std::span<const Value> values,
                               const std::function<void(const Row&)>& each = nullptr) = 0;
  std::int64_t execute(std::string_view statement, std::initializer_list<Value> values,
                       const std::function<void(const Row&)>& each = nullptr) {
    return execute(statement, std::span(values.begin(), values.size()), each);
  }

  // A transaction that may write takes the write lock at its start, so that it never fails half-way for being late.
  virtual void begin() = 0;
  virtual void commit() = 0;
  virtual void rollback() noexcept = 0;
};

// Runs `work` in a transaction: commits when it returns, rolls back when it throws.
template <class F>
auto transaction(Connection& connection, F&& work) {
  connection.begin();
  try {
    if constexpr (std::is_void_v<decltype(work())>) {
      work();
      connection.commit();
    } else {
      auto result = work();
      connection.commit();
      return result;
    }
  } catch (...) {
    connection.rollback();
    throw;
  }
}

// SQLite on a local file, or ":memory:". WAL and synchronous=FULL: a committed transaction survives power loss. When a
// sync fails, that of a checkpoint included, the process ends: see base/sync.h.
// `read_only` sessions see the last committed state and never wait for a writer; open them after a writer, and close
// them before it.
std::unique_ptr<Connection> open_sqlite(const std::string& path, bool read_only = false);

}  // namespace penstock::sql
