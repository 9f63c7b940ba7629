#include "store/db.h"

#include <fmt/core.h>

namespace penstock {

Db::Db(const std::string& path) {
  try {
    writer_ = sql::open_sqlite(path);
    sql::transaction(*writer_, [&] { Store(*writer_).migrate(); });
    if (path != ":memory:") reader_ = sql::open_sqlite(path, true);
  } catch (const std::exception& e) {
    throw UsageError(fmt::format("cannot use the database {}: {}", path, e.what()));
  }
}

Db::~Db() {
  reader_pool_.join();
  writer_pool_.join();
}

}  // namespace penstock
