#include <fmt/format.h>

#include <algorithm>

#include "api/handlers.h"
#include "model/wire.h"

namespace penstock {

Task<Response> list_models(Context& c) {
  std::vector<std::string> items;
  const auto models = c.services.engines.told_models();
  for (const std::string& id : models) items.push_back(wire::model(id, c.services.started_at));
  co_return json_response(
      wire::list(items, models.empty() ? "" : *models.begin(), models.empty() ? "" : *models.rbegin(), false));
}

Task<Response> get_model(Context& c) {
  if (!c.services.engines.told_models().contains(c.id)) {
    co_return error_response({.kind = Error::Kind::not_found,
                              .message = fmt::format("The model '{}' does not exist.", c.id),
                              .code = "model_not_found",
                              .param = "model"});
  }
  co_return json_response(wire::model(c.id, c.services.started_at));
}

// 503 turns a load balancer to other servers; whoever asks for something that is here gets it all the same. Trouble
// with engines or the disk is no reason to: the server waits for them, and need not be started again.
Task<Response> health(Context& c) {
  if (c.services.draining) co_return json_response(R"({"status":"draining"})", 503);
  std::vector<std::string> reasons;
  if (c.services.disk_low) reasons.emplace_back(R"("The disk is full. No line is sent until there is room.")");
  for (std::string trouble : c.services.engines.troubles()) {
    trouble.resize(std::min(trouble.find('\n'), trouble.size()));  // what an engine wrote is not for everybody
    std::replace_if(
        trouble.begin(), trouble.end(), [](unsigned char byte) { return byte > 0x7F; }, '?');
    reasons.push_back(wire::quoted(trouble));
  }
  if (reasons.empty()) co_return json_response(R"({"status":"ok"})");
  // They name engines and machines.
  if (!has(c.caller.scopes, Scope::admin)) co_return json_response(R"({"status":"degraded"})");
  co_return json_response(fmt::format(R"({{"status":"degraded","reasons":[{}]}})", fmt::join(reasons, ",")));
}

}  // namespace penstock
