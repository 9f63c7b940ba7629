#include <fmt/format.h>

#include <algorithm>

#include "api/handlers.h"
#include "model/wire.h"

namespace penstock {

Task<Response> list_models(Context& c) {
  std::vector<std::string> items;
  const auto models = c.services.engines.models();
  for (const std::string& id : models) items.push_back(wire::model(id, c.services.started_at));
  co_return json_response(
      wire::list(items, models.empty() ? "" : models.front(), models.empty() ? "" : models.back(), false));
}

Task<Response> get_model(Context& c) {
  const auto models = c.services.engines.models();
  if (std::find(models.begin(), models.end(), c.id) == models.end()) {
    co_return error_response({.kind = Error::Kind::not_found,
                              .message = fmt::format("The model '{}' does not exist.", c.id),
                              .code = "model_not_found",
                              .param = "model"});
  }
  co_return json_response(wire::model(c.id, c.services.started_at));
}

// 503 turns a load balancer to other servers; whoever asks for something that is here gets it all the same.
Task<Response> health(Context& c) {
  if (c.services.draining) co_return json_response(R"({"status":"draining"})", 503);
  if (c.services.disk_low) {
    co_return json_response(
        R"({"status":"degraded","reason":"The disk is full. No line is sent until there is room."})");
  }
  co_return json_response(R"({"status":"ok"})");
}

}  // namespace penstock
