#include <fmt/format.h>

#include <charconv>

#include "api/handlers.h"
#include "model/wire.h"
#include "store/access.h"

namespace penstock {
namespace {

constexpr std::string_view kIdPrefix = "audit_log-";

std::string id_of(const AuditEntry& entry) {
  return fmt::format("{}{}", kIdPrefix, entry.seq);
}

// The place of the entry with that id, which may be removed by now.
std::optional<std::int64_t> place_of(std::string_view id) {
  if (!id.starts_with(kIdPrefix)) return std::nullopt;
  id.remove_prefix(kIdPrefix.size());
  std::int64_t place = 0;
  const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), place);
  if (error != std::errc{} || end != id.data() + id.size() || place < 1) return std::nullopt;
  return place;
}

// As OpenAI's: what an entry is about stands under its type.
std::string to_json(const AuditEntry& entry) {
  const auto text = [](const std::string& id) { return id.empty() ? "null" : wire::quoted(id); };
  const std::string actor =
      entry.key ? fmt::format(R"({{"type":"api_key","api_key":{{"id":{}}}}})", wire::quoted(entry.key->value)) : "null";
  return fmt::format(
      R"({{"object":"organization.audit_log","id":"{}","type":{},"effective_at":{},"project":{{"id":{}}},"actor":{},)"
      R"("request_id":{},{}:{{"id":{}}}}})",
      id_of(entry), wire::quoted(entry.action),
      std::chrono::floor<std::chrono::seconds>(entry.at).time_since_epoch().count(), wire::quoted(entry.project.value),
      actor, text(entry.request_id), wire::quoted(entry.action), wire::quoted(entry.object_id));
}

}  // namespace

void Context::audit(Store& store, std::string action, std::string object_id) const {
  Access(store).audit({.at = services.clock.now(),
                       .project = caller.project,
                       .key = caller.key,
                       .action = std::move(action),
                       .object_id = std::move(object_id),
                       .request_id = request_id});
}

Task<Response> list_audit_logs(Context& c) {
  AuditQuery query;
  const auto limit = limit_param(c.request, query.limit, 100);
  if (!limit) co_return error_response(limit.error());
  query.limit = *limit;
  query.projects = query_params(c.request.query, "project_ids[]");
  query.keys = query_params(c.request.query, "actor_ids[]");
  query.actions = query_params(c.request.query, "event_types[]");
  query.object_ids = query_params(c.request.query, "resource_ids[]");
  if (const auto after = query_param(c.request.query, "after")) {
    const auto place = place_of(*after);
    if (!place) co_return error_response(invalid_request(fmt::format("No such audit log: {}", *after), "after"));
    query.before = *place;
  }
  const auto page = co_await c.services.db.read([&](Store& store) { return Access(store).audit_log(query); });
  std::vector<std::string> items;
  for (const AuditEntry& entry : page.items) items.push_back(to_json(entry));
  co_return json_response(wire::list(items, page.items.empty() ? "" : id_of(page.items.front()),
                                     page.items.empty() ? "" : id_of(page.items.back()), page.has_more));
}

}  // namespace penstock
