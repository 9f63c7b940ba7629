#pragma once
#include <boost/json.hpp>

#include "model/delivery.h"
#include "model/wire.h"

// The JSON of webhooks, their endpoints and deliveries. Endpoints are in the shape of the official Python client.
namespace penstock::wire {

// `webhook` of POST /v1/batches.
Result<NewWebhook> read_webhook(const boost::json::value& value);
// As Batch::webhook keeps it, and what people may see of that: all but the secret.
std::string webhook_json(const NewWebhook& webhook);
boost::json::value shown_webhook(const std::string& webhook);

// What POST /v1/webhook_endpoints and POST /v1/webhook_endpoints/{id} may say.
struct EndpointChange {
  std::optional<std::string> name, url;
  std::optional<std::vector<std::string>> event_types;
};
// `complete`: nothing may be missing.
Result<EndpointChange> parse_endpoint(std::string_view body, bool complete);
// What POST /v1/webhook_endpoints/{id}/rotate_secret may say, a body that is empty included: whether the old secret
// signs too for a day.
Result<bool> parse_rotation(std::string_view body);
// What POST /v1/webhook_endpoints/{id}/test may say: the type of the event.
Result<std::string> parse_endpoint_test(std::string_view body);

std::string to_json(const WebhookEndpoint& endpoint, bool with_secret = false);
std::string endpoint_test(const EndpointId& id, const std::string& event, int status);
std::string deleted_endpoint(const EndpointId& id);
std::string event_type_list();

boost::json::object delivery_object(const Delivery& delivery);
std::string to_json(const Delivery& delivery);
std::string deleted_delivery(const DeliveryId& id);

}  // namespace penstock::wire
