#include <fcntl.h>
#include <fmt/core.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <unordered_map>
#include <vector>

#include "base/sync.h"
#include "sql/connection.h"

namespace penstock::sql {
namespace {

Failure::Kind kind_of(int code, int system_errno) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return Failure::Kind::no_space;
    case SQLITE_IOERR:
      // A write to the database that finds no space is SQLITE_FULL, but growing the shared memory file is not.
      return system_errno == ENOSPC || system_errno == EDQUOT ? Failure::Kind::no_space : Failure::Kind::io;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Failure::Kind::busy;
    default:
      return Failure::Kind::other;
  }
}

// SQLite tells of a failed sync here before it does anything else. It would keep that of a checkpoint to itself, and
// sync the same file again later.
void hear(void*, int code, const char* text) {
  if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC) end_not_durable(text);
}

constexpr int kBusyTimeoutMs = 5'000;

// A new file is for its owner alone, and SQLite gives its log the same rights. One that is there is not even opened:
// closing it would end the locks that other sessions of this process have.
void make_private(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) ::close(fd);
}

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

struct Statement {
  std::unique_ptr<sqlite3_stmt, Finalize> handle;
  std::vector<std::size_t> order;  // SQLite numbers `$n` by first appearance: which value its parameter i+1 is
};

class SqliteRow final : public Row {
 public:
  explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}

  bool is_null(int column) const override { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

  std::int64_t integer(int column) const override {
    if (sqlite3_column_type(statement_, column) != SQLITE_INTEGER) wrong_type(column, "an integer");
    return sqlite3_column_int64(statement_, column);
  }

  std::string_view text(int column) const override {
    const int type = sqlite3_column_type(statement_, column);
    if (type != SQLITE_TEXT && type != SQLITE_BLOB) wrong_type(column, "text");
    const void* data = sqlite3_column_blob(statement_, column);  // before asking for the size
    return {static_cast<const char*>(data), static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }

 private:
  [[noreturn]] void wrong_type(int column, const char* wanted) const {
    const char* name = sqlite3_column_name(statement_, column);
    throw Failure(Failure::Kind::other, fmt::format("column {} is not {}", name ? name : "?", wanted));
  }

  sqlite3_stmt* statement_;
};

class SqliteConnection final : public Connection {
 public:
  SqliteConnection(const std::string& path, bool read_only) : begin_(read_only ? "BEGIN" : "BEGIN IMMEDIATE") {
    const int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (!read_only && path != ":memory:") make_private(path);
    sqlite3* database = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &database, flags | SQLITE_OPEN_NOMUTEX, nullptr);
    database_.reset(database);  // there is one even when opening failed, to tell why
    if (code != SQLITE_OK) fail(code);
    sqlite3_extended_result_codes(database, 1);
    sqlite3_busy_timeout(database, kBusyTimeoutMs);
    if (!read_only) {
      // Takes effect in a new database only. Rows of some 40 KB hang in chains of pages: larger pages, fewer links.
      execute_script("PRAGMA page_size = 8192");
      std::string mode;
      execute("PRAGMA journal_mode = WAL", {}, [&](const Row& row) { mode = row.text(0); });
      if (mode != "wal" && mode != "memory") {
        throw Failure(Failure::Kind::other, "its file system does not support write-ahead logging");
      }
      // SQLite does this too, and does not look whether it worked.
      if (mode == "wal") sync_directory(std::filesystem::absolute(path).parent_path());
    }
    execute_script(
        "PRAGMA synchronous = FULL;"
        "PRAGMA foreign_keys = ON;"
        "PRAGMA secure_delete = ON;"  // what was deleted cannot be found in the file
        "PRAGMA temp_store = MEMORY;"
        "PRAGMA cache_size = -16384;"             // KiB
        "PRAGMA wal_autocheckpoint = 1000;"       // pages
        "PRAGMA journal_size_limit = 67108864");  // bytes that an idle log may keep
  }

  void execute_script(std::string_view statements) override {
    const int code = sqlite3_exec(database_.get(), std::string(statements).c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) fail(code);
  }

  std::int64_t execute(std::string_view text, std::span<const Value> values,
                       const std::function<void(const Row&)>& each) override {
    const Statement& statement = prepared(text);
    sqlite3_stmt* handle = statement.handle.get();
    assert(!sqlite3_stmt_busy(handle));
    for (std::size_t i = 0; i < statement.order.size(); ++i) {
      if (statement.order[i] >= values.size()) {
        throw Failure(Failure::Kind::other, fmt::format("a value is missing for: {}", text));
      }
      bind(handle, static_cast<int>(i) + 1, values[statement.order[i]]);
    }

    // Ends the statement however we leave; a failure has been told by step().
    struct Reset {
      sqlite3_stmt* handle;
      ~Reset() { sqlite3_reset(handle); }
    } reset{handle};
    const SqliteRow row(handle);
    int code;
    while ((code = sqlite3_step(handle)) == SQLITE_ROW) {
      if (each) each(row);
    }
    if (code != SQLITE_DONE) fail(code);
    return sqlite3_stmt_readonly(handle) ? 0 : sqlite3_changes64(database_.get());
  }

  // The pages of what was deleted are zeroed, and the log has them as they were. Nobody waits here for a reader.
  bool forget_deleted() override {
    sqlite3_busy_timeout(database_.get(), 0);
    const int code = sqlite3_wal_checkpoint_v2(database_.get(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    sqlite3_busy_timeout(database_.get(), kBusyTimeoutMs);
    if (code != SQLITE_OK && kind_of(code, 0) != Failure::Kind::busy) fail(code);
    return code == SQLITE_OK;
  }

  void begin() override { execute(begin_, {}, nullptr); }
  void commit() override { execute("COMMIT", {}, nullptr); }
  void rollback() noexcept override {
    // SQLite has rolled back by itself after some errors.
    if (!sqlite3_get_autocommit(database_.get())) {
      sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
  }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  const Statement& prepared(std::string_view text) {
    if (const auto found = statements_.find(text); found != statements_.end()) return found->second;

    sqlite3_stmt* handle = nullptr;
    const int code = sqlite3_prepare_v3(database_.get(), text.data(), static_cast<int>(text.size()),
                                        SQLITE_PREPARE_PERSISTENT, &handle, nullptr);
    if (code != SQLITE_OK) fail(code);
    Statement statement;
    statement.handle.reset(handle);
    for (int i = 1; i <= sqlite3_bind_parameter_count(handle); ++i) {
      const std::string_view name = sqlite3_bind_parameter_name(handle, i);  // "$1"
      std::size_t number = 0;
      std::from_chars(name.data() + 1, name.data() + name.size(), number);
      assert(number > 0);
      statement.order.push_back(number - 1);
    }
    return statements_.emplace(text, std::move(statement)).first->second;
  }

  // The values outlive the statement's run, so SQLite needs no copies.
  void bind(sqlite3_stmt* handle, int parameter, const Value& value) {
    int code;
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      code = sqlite3_bind_int64(handle, parameter, *integer);
    } else if (const auto* text = std::get_if<std::string_view>(&value)) {
      code = sqlite3_bind_text64(handle, parameter, text->data() ? text->data() : "", text->size(), SQLITE_STATIC,
                                 SQLITE_UTF8);
    } else if (const auto* blob = std::get_if<Blob>(&value)) {
      const std::string_view bytes = blob->bytes;
      code = sqlite3_bind_blob64(handle, parameter, bytes.data() ? bytes.data() : "", bytes.size(), SQLITE_STATIC);
    } else {
      code = sqlite3_bind_null(handle, parameter);
    }
    if (code != SQLITE_OK) fail(code);
  }

  [[noreturn]] void fail(int code) const {
    throw Failure(kind_of(code, sqlite3_system_errno(database_.get())), sqlite3_errmsg(database_.get()));
  }

  const std::string_view begin_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  std::unordered_map<std::string, Statement, TextHash, std::equal_to<>> statements_;  // before the database goes
};

}  // namespace

std::unique_ptr<Connection> open_sqlite(const std::string& path, bool read_only) {
  static const int configured = sqlite3_config(SQLITE_CONFIG_LOG, hear, nullptr);
  if (configured != SQLITE_OK) throw Failure(Failure::Kind::other, "SQLite was used before it could be configured");
  return std::make_unique<SqliteConnection>(path, read_only);
}

}  // namespace penstock::sql
