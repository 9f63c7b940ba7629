#pragma once
#include <libpq-fe.h>

#include <memory>
#include <string>
#include <string_view>

// What sessions and listeners of PostgreSQL have in common. For this folder's own sources.
namespace penstock::sql {

struct FinishSession {
  void operator()(PGconn* session) const { PQfinish(session); }
};
using PostgresSession = std::unique_ptr<PGconn, FinishSession>;

struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;

// Throws Failure::Kind::away, with no password in its words.
PostgresSession connect_postgres(const std::string& url);

std::string in_one_line(std::string_view message);

// The channel of a database's schema is this and the MD5 of the schema's name.
constexpr std::string_view kChannelPrefix = "penstock_";

}  // namespace penstock::sql
