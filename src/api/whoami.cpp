#include <boost/json.hpp>

#include "api/views.h"
#include "model/json_fields.h"
#include "store/access.h"

namespace penstock {

Task<Response> get_whoami(Context& c) {
  const auto project =
      co_await c.services.db.read([&](Store& store) { return Access(store).find_project(c.caller.project); });
  boost::json::array scopes;
  for (const std::string_view word : words(c.caller.scopes)) scopes.emplace_back(word);
  const boost::json::object server{{"version", PENSTOCK_VERSION}, {"started_at", wire::seconds(c.services.started_at)}};
  const boost::json::object said{{"object", "principal"},
                                 {"project_id", c.caller.project.value},
                                 {"project_name", project ? project->name : ""},
                                 {"key_id", c.caller.key ? boost::json::value(c.caller.key->value) : nullptr},
                                 {"scopes", scopes},
                                 {"is_open", !c.caller.key},
                                 {"server", server}};
  co_return json_response(boost::json::serialize(said));
}

}  // namespace penstock
