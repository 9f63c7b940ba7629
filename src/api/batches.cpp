#include <fmt/format.h>

#include <algorithm>

#include "api/handlers.h"
#include "api/idempotency.h"
#include "batch/fleet.h"
#include "model/wire_webhooks.h"
#include "store/access.h"
#include "store/outbox.h"

namespace penstock {
namespace {

// The batches that have not ended, in their order, and what else says when each is served.
struct QueueNow {
  std::vector<Batch> batches = {};
  Weights weights = {};
};

QueueNow queue_now(Store& store) {
  QueueNow now{.batches = store.queue()};
  for (const Project& project : Access(store).projects()) now.weights.emplace(project.id, project.weight);
  return now;
}

// JSON of batches with their places in `queue`, and what their ends have brought.
std::vector<std::string> in_queue(Services& services, const std::vector<Batch>& batches, const QueueNow& queue,
                                  const std::vector<Delivery>& deliveries = {}) {
  const auto places = estimate(queue.batches, queue.weights, services.estimator, services.clock.now());
  std::vector<std::string> items;
  for (const Batch& batch : batches) {
    const auto place = places.find(batch.id);
    std::vector<Delivery> own;
    std::copy_if(deliveries.begin(), deliveries.end(), std::back_inserter(own),
                 [&](const Delivery& delivery) { return delivery.batch_id == batch.id; });
    items.push_back(wire::to_json(batch, place == places.end() ? std::nullopt : std::optional(place->second), own));
  }
  return items;
}

// The same with the queue and the outbox as they are now, which are asked for only when one of them is in there.
Task<std::vector<std::string>> with_places(Services& services, const std::vector<Batch>& batches) {
  std::vector<BatchId> ended;
  for (const Batch& batch : batches) {
    if (is_terminal(batch.status)) ended.push_back(batch.id);
  }
  QueueNow queue;
  std::vector<Delivery> deliveries;
  co_await services.db.read([&](Store& store) {
    if (ended.size() < batches.size()) queue = queue_now(store);
    deliveries = Outbox(store).of_batches(ended);
  });
  co_return in_queue(services, batches, queue, deliveries);
}

Task<std::string> with_place(Services& services, Batch batch) {
  std::vector<Batch> one{std::move(batch)};
  const auto items = co_await with_places(services, one);
  co_return items.front();
}

std::optional<Error> refuse_sink(const Services& services, const wire::NewSink& sink, const std::string& param) {
  if (!sink.url.empty()) {
    const auto usable = check_webhook_url(sink.url, services.webhook_allow, param + ".url");
    return usable ? std::nullopt : std::optional(usable.error());
  }
  const auto& known = services.sinks;
  if (std::find(known.begin(), known.end(), sink.name) != known.end()) return std::nullopt;
  return invalid_request(
      fmt::format("Invalid '{}': there is no sink '{}'. {}", param, sink.name,
                  known.empty() ? "None is configured." : fmt::format("Known are: '{}'.", fmt::join(known, "', '"))),
      param);
}

std::optional<Error> refuse_sinks(const Services& services, const std::vector<wire::NewSink>& sinks) {
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    if (auto error = refuse_sink(services, sinks[i], fmt::format("sinks[{}]", i))) return error;
  }
  return std::nullopt;
}

std::optional<Error> refuse(const wire::NewBatch& batch, const Services& services) {
  if (!endpoints().contains(batch.endpoint)) {
    return invalid_request(
        fmt::format("Invalid value: '{}'. Supported values are: '{}'.", batch.endpoint, fmt::join(endpoints(), "', '")),
        "endpoint");
  }
  if (auto error = refuse_sinks(services, batch.sinks)) return error;
  if (!batch.webhook) return std::nullopt;
  if (const auto usable = check_webhook_url(batch.webhook->url, services.webhook_allow, "webhook.url"); !usable) {
    return usable.error();
  }
  if (batch.webhook->secret && !is_webhook_secret(*batch.webhook->secret)) {
    return invalid_request("Invalid 'webhook.secret': what follows whsec_ must be Base64.", "webhook.secret");
  }
  return std::nullopt;
}

Result<std::chrono::seconds> length_of(const std::string& window, const std::vector<CompletionWindow>& offered) {
  std::vector<std::string> names;
  for (const auto& [name, length] : offered) {
    if (name == window) return length;
    names.push_back(name);
  }
  return invalid_request(
      fmt::format("Invalid value: '{}'. Supported values are: '{}'.", window, fmt::join(names, "', '")),
      "completion_window");
}

// Our own worker is there, also when its last beat could not be stored. One from the future was given before the
// clock was set back, and counts.
bool is_online(const Services& services, const std::optional<Timestamp>& last_seen) {
  return services.has_worker || (last_seen && services.clock.now() - *last_seen <= kOfflineAfter);
}

// For a batch that nobody would run.
std::optional<Error> refuse_offline(const Services& services, Store& store) {
  if (services.limits.accept_when_offline) return std::nullopt;
  const auto last_seen = store.worker_last_seen();
  if (is_online(services, last_seen)) return std::nullopt;
  std::string since = "never seen";
  if (last_seen) {
    const auto age = std::chrono::floor<std::chrono::seconds>(services.clock.now() - *last_seen);
    since = fmt::format("last seen {}s ago", age.count());
  }
  return Error{Error::Kind::unavailable, fmt::format("Worker offline ({})", since), "worker_offline"};
}

// Inserts a batch of that id and starts it, or finds what the request's Idempotency-Key has made before.
Task<Response> create_batch(Context& c, std::string_view body, const Batch& batch,
                            std::function<Result<Batch>(Store&)> insert) {
  const auto key = idempotency_key(batch.project, c.request, body);
  if (!key) co_return error_response(key.error());
  const auto created = co_await c.services.db.write([&](Store& store) {
    return create_once<Batch>(
        store, *key, batch.created_at, [&](const std::string& id) { return store.find_batch(batch.project, {id}); },
        [&] {
          auto made = insert(store);
          if (made) c.audit(store, "batch.created", batch.id.value);
          return made;
        });
  });
  if (!created) co_return error_response(created.error());
  if (created->id == batch.id) c.services.lifecycle.start(batch.id);
  co_return json_response(co_await with_place(c.services, *created));
}

// Pauses the batch, or lets it go on.
Task<Response> set_paused(Context& c, bool paused) {
  const BatchId id{c.id};
  std::optional<Timestamp> since;
  if (paused) since = c.services.clock.now();
  const auto batch = co_await c.services.db.write([&](Store& store) {
    auto changed = store.set_paused(c.caller.project, id, since);
    if (changed) c.audit(store, paused ? "batch.paused" : "batch.resumed", c.id);
    return changed;
  });
  if (!batch) co_return error_response(batch.error());
  c.services.lifecycle.set_paused(id, paused);
  co_return json_response(co_await with_place(c.services, *batch));
}

}  // namespace

Task<std::optional<BatchNow>> batch_now(Services& services, const ProjectId& project, const BatchId& id) {
  const auto batch = co_await services.db.read([&](Store& store) { return store.find_batch(project, id); });
  if (!batch) co_return std::nullopt;
  BatchNow now{.ended = is_terminal(batch->status)};
  now.json = co_await with_place(services, *batch);
  co_return now;
}

Task<Response> create_batch(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const Result<wire::NewBatch> asked = wire::parse_new_batch(body);
  if (!asked) co_return error_response(asked.error());
  if (const auto error = refuse(*asked, c.services)) co_return error_response(*error);
  const auto window = length_of(asked->completion_window, c.services.limits.completion_windows);
  if (!window) co_return error_response(window.error());

  Batch batch;
  batch.id = {random_id("batch_")};
  batch.project = c.caller.project;
  batch.driver = c.services.process;
  if (c.trace) batch.traceparent = to_string(*c.trace);
  batch.input_file_id = asked->input_file_id;
  batch.endpoint = asked->endpoint;
  batch.completion_window = asked->completion_window;
  batch.priority = asked->priority;
  batch.dedupe = asked->dedupe;
  if (asked->webhook) batch.webhook = wire::webhook_json(*asked->webhook);
  if (!asked->sinks.empty()) batch.sinks = wire::sinks_json(asked->sinks);
  batch.metadata = asked->metadata;
  batch.output_expires_after_seconds = asked->output_expires_after_seconds;
  batch.created_at = c.services.clock.now();
  batch.expires_at = batch.created_at + *window;

  co_return co_await create_batch(c, body, batch, [&](Store& store) -> Result<Batch> {
    store.lock_queue();
    const auto file = store.find_file(batch.project, batch.input_file_id, batch.created_at);
    if (!file) {
      return invalid_request(fmt::format("No such File object: {}", batch.input_file_id.value), "input_file_id");
    }
    if (file->purpose != "batch") {
      return invalid_request(
          fmt::format("The file {} has the purpose '{}'; a batch needs one with the purpose 'batch'.", file->id.value,
                      file->purpose),
          "input_file_id");
    }
    if (auto offline = refuse_offline(c.services, store)) return std::move(*offline);
    if (file->checked) {
      batch.counts.total = file->checked->lines;
      batch.model = file->checked->model;
    }
    const auto inserted = store.insert_batch(batch, c.services.limits.queue);
    if (!inserted) return inserted.error();
    return batch;
  });
}

Task<Response> retry_batch(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  Batch batch;
  batch.id = {random_id("batch_")};
  batch.project = c.caller.project;
  batch.driver = c.services.process;
  if (c.trace) batch.traceparent = to_string(*c.trace);
  batch.created_at = c.services.clock.now();
  co_return co_await create_batch(c, body, batch, [&](Store& store) -> Result<Batch> {
    auto offline = refuse_offline(c.services, store);
    const auto old = store.find_batch(batch.project, {c.id});
    if (offline && old) return std::move(*offline);
    if (old && old->sinks) {
      const auto sinks = wire::read_sinks(wire::shown_sinks(*old->sinks)).value();
      if (auto error = refuse_sinks(c.services, sinks)) return std::move(*error);
    }
    auto made = store.retry_batch({c.id}, batch, c.services.limits.queue);
    if (made) c.audit(store, "batch.retried", c.id);
    return made;
  });
}

Task<Response> list_batches(Context& c) {
  const auto limit = limit_param(c.request, 20, 100);
  if (!limit) co_return error_response(limit.error());
  std::optional<BatchId> after;
  if (auto id = query_param(c.request.query, "after")) after = BatchId{std::move(*id)};

  const auto filter = filter_params(c.request);
  if (!filter) co_return error_response(filter.error());

  const auto page = co_await c.services.db.read(
      [&](Store& store) { return store.list_batches(c.caller.project, after, *limit, *filter); });
  if (!page) co_return error_response(page.error());
  const auto items = co_await with_places(c.services, page->items);
  co_return json_response(wire::list(items, page->items.empty() ? "" : page->items.front().id.value,
                                     page->items.empty() ? "" : page->items.back().id.value, page->has_more));
}

Task<Response> get_batch(Context& c) {
  const BatchId id{c.id};
  const auto now = co_await batch_now(c.services, c.caller.project, id);
  if (!now) co_return error_response(no_such_batch(id));
  co_return json_response(now->json);
}

Task<Response> update_batch(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const Result<int> priority = wire::parse_priority(body);
  if (!priority) co_return error_response(priority.error());
  const auto batch = co_await c.services.db.write([&](Store& store) {
    auto changed = store.set_priority(c.caller.project, {c.id}, *priority);
    if (changed) c.audit(store, "batch.updated", c.id);
    return changed;
  });
  if (!batch) co_return error_response(batch.error());
  c.services.lifecycle.notify(batch->id);
  co_return json_response(co_await with_place(c.services, *batch));
}

Task<Response> get_queue(Context& c) {
  const auto [queue, last_seen] =
      co_await c.services.db.read([](Store& store) { return std::pair(queue_now(store), store.worker_last_seen()); });
  // Who waits behind others sees his place, and nothing of them.
  std::vector<Batch> own;
  std::copy_if(queue.batches.begin(), queue.batches.end(), std::back_inserter(own),
               [&](const Batch& batch) { return batch.project == c.caller.project; });
  co_return json_response(wire::queue(in_queue(c.services, own, queue), own.empty() ? "" : own.front().id.value,
                                      own.empty() ? "" : own.back().id.value, c.services.limits.queue.depth,
                                      {is_online(c.services, last_seen), last_seen}));
}

Task<Response> pause_batch(Context& c) {
  return set_paused(c, true);
}

Task<Response> resume_batch(Context& c) {
  return set_paused(c, false);
}

Task<Response> cancel_batch(Context& c) {
  const BatchId id{c.id};
  const auto batch = co_await c.services.db.write([&](Store& store) {
    auto cancelled = store.request_cancel(c.caller.project, id, c.services.clock.now());
    if (cancelled) c.audit(store, "batch.cancelled", c.id);
    return cancelled;
  });
  if (!batch) co_return error_response(batch.error());
  c.services.lifecycle.notify(id);
  co_return json_response(co_await with_place(c.services, *batch));
}

}  // namespace penstock
