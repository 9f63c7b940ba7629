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

// The seam below Store: the same statements, with `$1`, `$2` … as parameters, run on every driver. What only PostgreSQL
// needs stands in a comment, as in `/*PG FOR UPDATE */`: its driver opens that up.
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
  enum class Kind {
    other,
    no_space,
    io,
    busy,      // somebody else held for too long what this needs
    conflict,  // another transaction crossed this one, which is rolled back and can be run again
    away,      // there is no connection, or it broke. Of a transaction whose commit() threw it nothing is known
  };
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

  // The same for a statement whose result nobody needs. It may be sent along with the next one or the commit, which
  // then throws what it failed with.
  virtual void execute_later(std::string_view statement, std::initializer_list<Value> values) {
    execute(statement, values);
  }

  // SQLite: a transaction that may write takes the write lock at its start, so that it never fails half-way for being
  // late. PostgreSQL: READ COMMITTED, so transactions that could cross need locks; one that only reads sees one state.
  virtual void begin() = 0;
  virtual void commit() = 0;
  virtual void rollback() noexcept = 0;

  // From here to the end of the transaction no other one has the lock of this name. SQLite has one writer anyway.
  virtual void lock([[maybe_unused]] std::string_view name) {}
  // At the commit every listener hears the payload; see open_listener(). PostgreSQL commits such transactions one at a
  // time, so none of the many may have it.
  virtual void notify([[maybe_unused]] std::string_view payload) {}

  // Removes what was deleted from where the driver itself keeps what it wrote; outside of transactions. False while
  // somebody reads there: ask again later. PostgreSQL keeps its log to itself.
  virtual bool forget_deleted() { return true; }

  // False when the session is known to have ended: open another one.
  virtual bool is_usable() { return true; }
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

// PostgreSQL, by a URL as libpq reads it; https://www.postgresql.org/docs/15/libpq-connect.html. Several hosts in it
// are tried for the one that can be written to. A committed transaction survives power loss of the server. No call
// waits for a server that says nothing for longer than 40 s. Text that PostgreSQL cannot hold, which is a NUL or not
// UTF-8, gets marks in the place of those bytes.
std::unique_ptr<Connection> open_postgres(const std::string& url, bool read_only = false);

bool is_postgres(std::string_view address);
// The URL as people may read it: without a password.
std::string without_password(const std::string& url);

// Hears what notify() sent in any session with the same database and schema, until it is destroyed.
class Listener {
 public:
  virtual ~Listener() = default;
};
// `heard` runs on a thread of the listener's own; with an empty payload after each connect, the first one too:
// something may have been missed before. It connects again by itself.
std::unique_ptr<Listener> open_listener(const std::string& url, std::function<void(const std::string&)> heard);

}  // namespace penstock::sql
