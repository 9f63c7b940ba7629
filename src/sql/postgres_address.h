#pragma once
#include <string>
#include <vector>

namespace penstock::sql {

// What the URL of a PostgreSQL says of the way to it.
struct PostgresAddress {
  std::vector<std::string> hosts;  // names and addresses; a path, or nothing: a unix socket
  std::string sslmode;             // as libpq takes it, from the environment too; "prefer" where nobody says
  std::string password;            // empty: it is not in the URL
};

// A URL that libpq cannot read has nothing of all that.
PostgresAddress read_address(const std::string& url);

}  // namespace penstock::sql
