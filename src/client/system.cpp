#include <fmt/format.h>

#include "base/exit_codes.h"
#include "client/commands.h"
#include "client/system_view.h"
#include "client/table.h"

namespace penstock {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// Prints a list of the server, as JSON or as a table.
Task<int> print_list(Session& session, const ClientOptions& options, std::string path,
                     Rows (*rows)(const json::object&)) {
  const json::object list = co_await session.server.get(path);
  if (options.json) {
    for (const json::object& item : items(list)) print_json(item);
  } else {
    print_table(rows(list));
  }
  co_return kExitOk;
}

Rows model_rows(const json::object& list) {
  Rows rows{{"MODEL"}};
  for (const json::object& model : items(list)) rows.push_back({shown(text(model, "id"))});
  return rows;
}

}  // namespace

Task<int> models(Session& session, const ClientOptions& options) {
  return print_list(session, options, "/v1/models", model_rows);
}

Task<int> engines(Session& session, const ClientOptions& options) {
  return print_list(session, options, "/v1/engines", engine_rows);
}

Task<int> workers(Session& session, const ClientOptions& options) {
  return print_list(session, options, "/v1/workers", worker_rows);
}

}  // namespace penstock
