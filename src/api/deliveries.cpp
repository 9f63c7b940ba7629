#include <fmt/format.h>

#include "api/handlers.h"
#include "model/wire_webhooks.h"
#include "store/outbox.h"

namespace penstock {

Task<Response> list_deliveries(Context& c) {
  DeliveryQuery query;
  query.project = c.caller.project;
  const auto limit = limit_param(c.request, 20, 100);
  if (!limit) co_return error_response(limit.error());
  query.limit = *limit;
  if (auto id = query_param(c.request.query, "after")) query.after = DeliveryId{std::move(*id)};
  if (auto id = query_param(c.request.query, "batch_id")) query.batch = BatchId{std::move(*id)};
  if (const auto word = query_param(c.request.query, "status")) {
    for (const auto status : {DeliveryStatus::pending, DeliveryStatus::delivered, DeliveryStatus::dead}) {
      if (*word == to_string(status)) query.status = status;
    }
    if (!query.status) {
      co_return error_response(invalid_request(
          fmt::format("Invalid value: '{}'. Supported values are: 'pending', 'delivered', 'dead'.", *word), "status"));
    }
  }
  const auto page = co_await c.services.db.read([&](Store& store) { return Outbox(store).list(query); });
  if (!page) co_return error_response(page.error());
  std::vector<std::string> items;
  for (const Delivery& delivery : page->items) items.push_back(wire::to_json(delivery));
  co_return json_response(wire::list(items, page->items.empty() ? "" : page->items.front().id.value,
                                     page->items.empty() ? "" : page->items.back().id.value, page->has_more));
}

Task<Response> get_delivery(Context& c) {
  const auto delivery =
      co_await c.services.db.read([&](Store& store) { return Outbox(store).find(c.caller.project, {c.id}); });
  if (!delivery) co_return error_response(no_such_delivery({c.id}));
  co_return json_response(wire::to_json(*delivery));
}

Task<Response> retry_delivery(Context& c) {
  const auto delivery = co_await c.services.db.write([&](Store& store) {
    auto done = Outbox(store).retry(c.caller.project, {c.id}, c.services.clock.now());
    if (done && !done->owner) c.audit(store, "delivery.retried", c.id);
    return done;
  });
  if (!delivery) co_return error_response(delivery.error());
  c.services.deliveries.wake();
  co_return json_response(wire::to_json(*delivery));
}

Task<Response> delete_delivery(Context& c) {
  const bool removed = co_await c.services.db.write([&](Store& store) {
    const bool done = Outbox(store).remove(c.caller.project, {c.id});
    if (done) c.audit(store, "delivery.deleted", c.id);
    return done;
  });
  if (!removed) co_return error_response(no_such_delivery({c.id}));
  co_return json_response(wire::deleted_delivery({c.id}));
}

}  // namespace penstock
