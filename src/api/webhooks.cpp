#include <fmt/format.h>

#include "api/handlers.h"
#include "model/wire_webhooks.h"
#include "store/outbox.h"

namespace penstock {
namespace {

constexpr std::int64_t kEndpointsMax = 100;  // of a project: each hears of every batch
constexpr Millis kOldSecretSigns = std::chrono::hours(24);

// Changes the endpoint of the request in one transaction, and returns it. `change` says whether it is another one then,
// and may run twice.
Task<Result<WebhookEndpoint>> change_endpoint(Context& c, const char* action,
                                              std::function<bool(WebhookEndpoint&)> change) {
  co_return co_await c.services.db.write([&](Store& store) -> Result<WebhookEndpoint> {
    Outbox outbox(store);
    auto endpoint = outbox.take_endpoint(c.caller.project, {c.id});
    if (!endpoint) return no_such_endpoint({c.id});
    if (change(*endpoint)) {
      outbox.update_endpoint(*endpoint);
      c.audit(store, action, c.id);
    }
    return std::move(*endpoint);
  });
}

}  // namespace

Task<Response> create_endpoint(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto asked = wire::parse_endpoint(body, true);
  if (!asked) co_return error_response(asked.error());
  if (const auto usable = check_webhook_url(*asked->url, c.services.webhook_allow, "url"); !usable) {
    co_return error_response(usable.error());
  }
  WebhookEndpoint endpoint;
  endpoint.id = {random_id("we_")};
  endpoint.project = c.caller.project;
  endpoint.name = *asked->name;
  endpoint.url = *asked->url;
  endpoint.event_types = *asked->event_types;
  endpoint.secret = new_webhook_secret();
  endpoint.created_at = endpoint.updated_at = c.services.clock.now();
  const auto inserted = co_await c.services.db.write([&](Store& store) -> Result<void> {
    Outbox outbox(store);
    if (outbox.lock_endpoints(endpoint.project) >= kEndpointsMax) {
      return invalid_request(
          fmt::format("There are {} webhook endpoints already, and no more can be made.", kEndpointsMax), "");
    }
    outbox.insert_endpoint(endpoint);
    c.audit(store, "webhook_endpoint.created", endpoint.id.value);
    return {};
  });
  if (!inserted) co_return error_response(inserted.error());
  co_return json_response(wire::to_json(endpoint, true));
}

Task<Response> list_endpoints(Context& c) {
  const auto limit = limit_param(c.request, 20, 100);
  if (!limit) co_return error_response(limit.error());
  std::optional<EndpointId> after;
  if (auto id = query_param(c.request.query, "after")) after = EndpointId{std::move(*id)};
  const auto page = co_await c.services.db.read(
      [&](Store& store) { return Outbox(store).list_endpoints(c.caller.project, after, *limit); });
  if (!page) co_return error_response(page.error());
  std::vector<std::string> items;
  for (const WebhookEndpoint& endpoint : page->items) items.push_back(wire::to_json(endpoint));
  co_return json_response(wire::list(items, page->items.empty() ? "" : page->items.front().id.value,
                                     page->items.empty() ? "" : page->items.back().id.value, page->has_more));
}

Task<Response> get_endpoint(Context& c) {
  const auto endpoint =
      co_await c.services.db.read([&](Store& store) { return Outbox(store).find_endpoint(c.caller.project, {c.id}); });
  if (!endpoint) co_return error_response(no_such_endpoint({c.id}));
  co_return json_response(wire::to_json(*endpoint));
}

// One that was disabled hears again from then on.
Task<Response> update_endpoint(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto asked = wire::parse_endpoint(body, false);
  if (!asked) co_return error_response(asked.error());
  if (asked->url) {
    const auto usable = check_webhook_url(*asked->url, c.services.webhook_allow, "url");
    if (!usable) co_return error_response(usable.error());
  }
  const Timestamp now = c.services.clock.now();
  const auto endpoint = co_await change_endpoint(c, "webhook_endpoint.updated", [&](WebhookEndpoint& e) {
    bool changed = e.disabled_at.has_value();
    const auto set = [&](auto& field, const auto& value) {
      if (!value || field == *value) return;
      field = *value;
      e.updated_at = now;
      changed = true;
    };
    set(e.name, asked->name);
    set(e.url, asked->url);
    set(e.event_types, asked->event_types);
    e.disabled_at.reset();
    return changed;
  });
  if (!endpoint) co_return error_response(endpoint.error());
  co_return json_response(wire::to_json(*endpoint));
}

Task<Response> delete_endpoint(Context& c) {
  const bool removed = co_await c.services.db.write([&](Store& store) {
    const bool done = Outbox(store).remove_endpoint(c.caller.project, {c.id});
    if (done) c.audit(store, "webhook_endpoint.deleted", c.id);
    return done;
  });
  if (!removed) co_return error_response(no_such_endpoint({c.id}));
  co_return json_response(wire::deleted_endpoint({c.id}));
}

Task<Response> rotate_secret(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto keep_old = wire::parse_rotation(body);
  if (!keep_old) co_return error_response(keep_old.error());
  const Timestamp now = c.services.clock.now();
  const std::string secret = new_webhook_secret();
  const auto endpoint = co_await change_endpoint(c, "webhook_endpoint.secret_rotated", [&](WebhookEndpoint& e) {
    e.old_secret.reset();
    e.old_secret_until.reset();
    if (*keep_old) {
      e.old_secret = e.secret;
      e.old_secret_until = now + kOldSecretSigns;
    }
    e.secret = secret;
    e.updated_at = now;
    return true;
  });
  if (!endpoint) co_return error_response(endpoint.error());
  co_return json_response(wire::to_json(*endpoint, true));
}

// Not through the outbox: who asks waits for the answer. One at a time, since each costs a connection and a look-up of
// a name.
Task<Response> test_endpoint(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const auto event = wire::parse_endpoint_test(body);
  if (!event) co_return error_response(event.error());
  const auto endpoint =
      co_await c.services.db.read([&](Store& store) { return Outbox(store).find_endpoint(c.caller.project, {c.id}); });
  if (!endpoint) co_return error_response(no_such_endpoint({c.id}));

  auto& under_way = c.services.tests_of_endpoints;
  if (!under_way.insert(c.caller.project).second) {
    co_return error_response({.kind = Error::Kind::too_many_requests,
                              .message = "Another test of a webhook endpoint is under way. Try again soon.",
                              .code = "rate_limit_exceeded"});
  }
  struct End {
    std::set<ProjectId>& under_way;
    const ProjectId& project;
    ~End() { under_way.erase(project); }
  } const end{under_way, c.caller.project};

  const Timestamp now = c.services.clock.now();
  Batch sample;
  sample.id = {"batch_test"};
  sample.status = parse_batch_status(event->substr(event->find('.') + 1));
  WebhookCall call;
  call.url = endpoint->url;
  call.id = random_id("wh_");
  call.body = event_body(*event, sample, now);
  call.secrets = secrets_of(*endpoint, now);
  const WebhookAnswer answer = co_await post_webhook(c.services.loop, c.services.clock, c.services.webhook_allow, call);
  if (!answer.status) {
    co_return error_response(invalid_request(fmt::format("The endpoint could not be tested: {}.", answer.outcome.why),
                                             "", "webhook_endpoint_unreachable"));
  }
  co_return json_response(wire::endpoint_test(endpoint->id, *event, *answer.status));
}

Task<Response> list_event_types(Context&) {
  co_return json_response(wire::event_type_list());
}

}  // namespace penstock
