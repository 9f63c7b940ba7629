#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "blob/blob_store.h"
#include "cli/doctor.h"
#include "sql/connection.h"
#include "sql/postgres_address.h"
#include "store/access.h"

// Where things are kept: the data folder, the database and the place of the blobs.
namespace penstock {
namespace {

namespace fs = std::filesystem;
using enum Finding::Level;

constexpr std::int64_t kClocksApartMax = 60;  // seconds

// The process that has locked the file, as the kernel lists it; to try the lock would be to hold it for a moment.
// https://man7.org/linux/man-pages/man5/proc_locks.5.html
std::optional<std::string> who_locks(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  const std::string file = fmt::format(" {:02x}:{:02x}:{} ", major(status.st_dev), minor(status.st_dev), status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    if (line.find("FLOCK") == std::string::npos || line.find(file) == std::string::npos) continue;
    const std::string before = line.substr(0, line.find(file));
    return before.substr(before.rfind(' ') + 1);
  }
  return std::nullopt;
}

std::string database_path(const Config& config) {
  return config.data + "/penstock.db";
}

// Nothing where there is none yet, or it cannot be reached; check_database() says which.
std::unique_ptr<sql::Connection> open_database(const Config& config) {
  if (!config.database.empty()) return sql::open_postgres(config.database, true);
  return fs::exists(database_path(config)) ? sql::open_sqlite(database_path(config), true) : nullptr;
}

Finding check_schema(Store& store, const std::string& where) {
  const SchemaVersions versions = store.schema_versions();
  const std::string words = fmt::format("{} has schema {}", where, versions.database);
  if (!versions.can_be_used) {
    return {fail, "database", fmt::format("{}, and this program knows only {}", words, versions.program),
            "use a newer penstock"};
  }
  if (versions.database < versions.program) {
    return {warn, "database", fmt::format("{}; the next start brings it to {}", words, versions.program),
            "make a backup first"};
  }
  return {ok, "database", words};
}

void check_server(sql::Connection& session, Findings& findings) {
  std::string fsync;
  std::int64_t now = 0;
  session.execute("SHOW fsync", {}, [&](const sql::Row& row) { fsync = row.text(0); });
  session.execute("SELECT CAST(extract(epoch FROM now()) AS BIGINT)", {},
                  [&](const sql::Row& row) { now = row.integer(0); });
  if (fsync != "on") {
    findings.push_back(
        {fail, "database", "PostgreSQL runs without fsync: a power cut loses what was acknowledged", "set fsync = on"});
  }
  const std::int64_t apart = std::abs(now - static_cast<std::int64_t>(::time(nullptr)));
  if (apart > kClocksApartMax) {
    findings.push_back({warn, "clock",
                        fmt::format("the clocks of this machine and of PostgreSQL are {} s apart", apart),
                        "let both follow a time server"});
  }
}

}  // namespace

std::vector<ApiKey> all_keys(const Config& config) {
  try {
    const auto session = open_database(config);
    if (!session) return {};
    Store store(*session);
    return Access(store).keys();
  } catch (const sql::Failure&) {
    return {};
  }
}

Findings check_data(const Config& config) {
  if (!fs::exists(config.data)) {
    return {{ok, "data", fmt::format("there is no folder {} yet; the first start makes it", config.data)}};
  }
  if (::access(config.data.c_str(), R_OK | W_OK | X_OK) != 0) {
    return {{fail, "data", fmt::format("this user cannot write in {}", config.data),
             "run it as its owner, or name another folder"}};
  }
  Findings findings = check_private("data", config.data);
  const auto process = who_locks(config.data + "/lock");
  findings.push_back({ok, "data",
                      process ? fmt::format("process {} runs on {}", *process, config.data)
                              : fmt::format("nothing runs on {}", config.data)});
  return findings;
}

Findings check_database_url(const Config& config, bool from_flag) {
  if (config.database.empty()) return {};
  Findings findings;
  const sql::PostgresAddress address = sql::read_address(config.database);
  if (from_flag && !address.password.empty()) {
    findings.push_back({warn, "database",
                        "its password stands on the command line, which everybody on the machine sees",
                        "set PENSTOCK_DATABASE, or put the password into ~/.pgpass"});
  }
  const bool is_near = std::all_of(address.hosts.begin(), address.hosts.end(), is_local);
  const std::string& mode = address.sslmode;
  if (is_near) {
    findings.push_back({ok, "database", "PostgreSQL is on this machine"});
  } else if (mode == "disable" || mode == "allow" || mode == "prefer") {
    findings.push_back(
        {warn, "database",
         fmt::format("sslmode={}: prompts' answers and the password may cross the network in plain text", mode),
         "add sslmode=verify-full to its URL"});
  } else if (mode == "require") {
    findings.push_back({warn, "database", "sslmode=require: TLS, and nobody looks whether it is the right server",
                        "add sslmode=verify-full to its URL, with sslrootcert"});
  } else {
    findings.push_back({ok, "database", fmt::format("TLS, with sslmode={}", mode)});
  }
  return findings;
}

Findings check_database(const Config& config) {
  const bool is_shared = !config.database.empty();
  const std::string where = is_shared ? sql::without_password(config.database) : database_path(config);
  Findings findings;
  try {
    const auto session = open_database(config);
    if (!session) return {{ok, "database", fmt::format("there is no {} yet; the first start makes it", where)}};
    if (is_shared) check_server(*session, findings);
    Store store(*session);
    findings.push_back(check_schema(store, where));
  } catch (const sql::Failure& e) {
    if (e.kind() == sql::Failure::Kind::away) {
      findings.push_back({fail, "database", fmt::format("{} cannot be reached: {}", where, e.what()),
                          "start it, or mend its URL; without it no server starts"});
    } else if (is_shared) {
      findings.push_back({ok, "database", fmt::format("{} is empty; the first start fills it", where)});
    } else {
      findings.push_back({fail, "database", fmt::format("{} cannot be read: {}", where, e.what()), "restore a backup"});
    }
  }
  return findings;
}

Findings check_blobs(const Config& config) {
  if (config.blobs.empty()) return {};
  if (!config.blobs.starts_with("s3://")) {
    if (!fs::exists(config.blobs)) {
      return {{ok, "blobs", fmt::format("there is no folder {} yet; the first start makes it", config.blobs)}};
    }
    if (::access(config.blobs.c_str(), R_OK | W_OK | X_OK) != 0) {
      return {{fail, "blobs", fmt::format("this user cannot write in {}", config.blobs), "give it the rights"}};
    }
  }
  Findings findings;
  if (!config.blobs.starts_with("s3://")) findings = check_private("blobs", config.blobs);
  try {
    const auto blobs =
        open_blobs(config.blobs, fs::exists(config.data) ? config.data : fs::temp_directory_path().string());
    std::string mark, name;
    if (const auto reader = blobs->open(std::string(kIdentityKey))) reader->read_at(0, reader->size(), mark);
    try {
      if (const auto session = open_database(config)) name = Store(*session).known_identity().value_or("");
    } catch (const sql::Failure&) {
      // check_database() tells of it.
    }
    if (mark.empty()) {
      findings.push_back({ok, "blobs", fmt::format("{} can be used, and is no database's yet", config.blobs)});
    } else if (!name.empty() && mark != name) {
      findings.push_back({fail, "blobs", fmt::format("{} is where the files of another database are", config.blobs),
                          "all servers and workers of one database need the same --blobs, and no others"});
    } else {
      findings.push_back({ok, "blobs", fmt::format("{} can be used", config.blobs)});
    }
  } catch (const std::exception& e) {
    findings.push_back({fail, "blobs", e.what(), "mend its address or the credentials"});
  }
  return findings;
}

}  // namespace penstock
