#pragma once
#include "model/types.h"

// What the ends of batches bring: events for webhooks, and results for sinks. Values.
namespace penstock {

using DeliveryId = Id<struct DeliveryTag>;         // "wh_…", without a dot: a webhook's signature covers it
using EndpointId = Id<struct WebhookEndpointTag>;  // "we_…"

enum class DeliveryKind { webhook, sink };
enum class DeliveryStatus { pending, delivered, dead };

// The words on the wire and in the store.
std::string_view to_string(DeliveryKind kind);
std::string_view to_string(DeliveryStatus status);
// Both throw std::invalid_argument for another word.
DeliveryKind parse_delivery_kind(std::string_view word);
DeliveryStatus parse_delivery_status(std::string_view word);

// One event on its way to one receiver: pending until it is delivered, or dead since it could not be.
struct Delivery {
  DeliveryId id;  // the same over all attempts
  ProjectId project = kDefaultProject;
  BatchId batch_id;
  DeliveryKind kind{};
  // JSON object. Of a webhook: "url" and "secret", or "endpoint_id" and "url" of an endpoint, whose row has the rest.
  // Of a sink: what the batch asked for, with "name" of one that is configured or "url".
  std::string receiver;
  std::string destination;  // the far side that it burdens
  std::string event;        // "batch.completed", …
  std::string body;         // of a webhook, as it is signed
  DeliveryStatus status = DeliveryStatus::pending;
  std::int64_t attempts = 0;  // that were begun
  std::int64_t failures = 0;  // attempts that failed since one came further
  std::int64_t position = 0;  // of a sink: how far it has come
  Timestamp next_at{};        // of the next attempt
  std::optional<std::string> owner;
  std::optional<std::string> last_error;  // in our words
  Timestamp created_at{};
  std::optional<Timestamp> ended_at;
};

// Who hears of every batch of a project.
struct WebhookEndpoint {
  EndpointId id;
  ProjectId project = kDefaultProject;
  std::string name, url;
  std::vector<std::string> event_types;
  std::string secret;
  std::optional<std::string> old_secret;  // signs too, until then
  std::optional<Timestamp> old_secret_until;
  Timestamp created_at{}, updated_at{};
  std::optional<Timestamp> disabled_at;  // it has said that it is gone
};

// "batch.completed", … for each status that ends a batch.
const std::vector<std::string>& event_types();

// Pending deliveries of the end of this batch, one to each receiver that asked for it: its webhook, the webhook_url of
// its metadata, those of its project's endpoints that are given, and its sinks. All have the same event.
std::vector<Delivery> deliveries_of(const Batch& batch, const std::vector<WebhookEndpoint>& endpoints, Timestamp now);

// The body of an event: OpenAI's, and what older servers sent, in one object.
std::string event_body(const std::string& event, const Batch& batch, Timestamp now);

// Host and port in lower case, or empty for what is no URL.
std::string destination_of(std::string_view url);

}  // namespace penstock
