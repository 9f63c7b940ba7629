#include "model/wire_webhooks.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/json_fields.h"

namespace penstock::wire {
namespace {

constexpr std::size_t kUrlMax = 2'048, kNameMax = 256, kSecretMax = 512;

Result<std::string> short_text(const json::value& value, const std::string& param, std::size_t max) {
  if (!value.is_string()) return wrong_type(param, "a string", value);
  const std::string_view text = value.get_string();
  if (text.empty()) return invalid_request(fmt::format("Invalid '{}': it is empty.", param), param);
  if (characters(text) > max) {
    return invalid_request(fmt::format("Invalid '{}': longer than {} characters.", param, max), param,
                           "string_above_max_length");
  }
  return std::string(text);
}

Result<std::string> event_type(const json::value& value, const std::string& param) {
  if (!value.is_string()) return wrong_type(param, "a string", value);
  const std::string type(value.get_string());
  const auto& known = event_types();
  if (std::find(known.begin(), known.end(), type) != known.end()) return type;
  return invalid_request(
      fmt::format("Invalid value: '{}'. Supported values are: '{}'.", type, fmt::join(known, "', '")), param);
}

// Each once.
Result<std::vector<std::string>> event_types_of(const json::value& value, const std::string& param) {
  if (!value.is_array()) return wrong_type(param, "an array of strings", value);
  std::vector<std::string> types;
  for (const json::value& item : value.get_array()) {
    const auto type = event_type(item, param);
    if (!type) return type.error();
    if (std::find(types.begin(), types.end(), *type) == types.end()) types.push_back(*type);
  }
  if (types.empty()) return invalid_request(fmt::format("Invalid '{}': it names no event.", param), param);
  return types;
}

}  // namespace

Result<NewWebhook> read_webhook(const json::value& value) {
  if (!value.is_object()) return wrong_type("webhook", "an object", value);
  const json::object& object = value.get_object();
  NewWebhook webhook{.url = {}, .secret = std::nullopt, .events = event_types()};
  const json::value* url = find(object, "url");
  if (!url) return missing("webhook.url");
  const auto text = short_text(*url, "webhook.url", kUrlMax);
  if (!text) return text.error();
  webhook.url = *text;
  if (const json::value* secret = find(object, "secret")) {
    const auto said = short_text(*secret, "webhook.secret", kSecretMax);
    if (!said) return said.error();
    webhook.secret = *said;
  }
  if (const json::value* events = find(object, "events")) {
    const auto types = event_types_of(*events, "webhook.events");
    if (!types) return types.error();
    webhook.events = *types;
  }
  return webhook;
}

std::string webhook_json(const NewWebhook& webhook) {
  return json::serialize(json::object{{"url", webhook.url},
                                      {"secret", webhook.secret ? json::value(*webhook.secret) : json::value()},
                                      {"events", json::value_from(webhook.events)}});
}

json::value shown_webhook(const std::string& webhook) {
  json::value shown = json::parse(webhook);
  shown.as_object().erase("secret");
  return shown;
}

Result<EndpointChange> parse_endpoint(std::string_view body, bool complete) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  EndpointChange change;
  for (const auto& [name, field, max] :
       {std::tuple{"name", &change.name, kNameMax}, std::tuple{"url", &change.url, kUrlMax}}) {
    const json::value* value = find(*root, name);
    if (!value && complete) return missing(name);
    if (!value) continue;
    const auto text = short_text(*value, name, max);
    if (!text) return text.error();
    *field = *text;
  }
  const json::value* types = find(*root, "event_types");
  if (!types && complete) return missing("event_types");
  if (types) {
    const auto named = event_types_of(*types, "event_types");
    if (!named) return named.error();
    change.event_types = *named;
  }
  return change;
}

Result<bool> parse_rotation(std::string_view body) {
  if (body.empty()) return false;
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  constexpr const char* kName = "keep_old_secret_active_for_24_hours";
  const json::value* keep = find(*root, kName);
  if (!keep) return false;
  if (!keep->is_bool()) return wrong_type(kName, "a boolean", *keep);
  return keep->get_bool();
}

Result<std::string> parse_endpoint_test(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  const json::value* type = find(*root, "event_type");
  if (!type) return missing("event_type");
  return event_type(*type, "event_type");
}

std::string to_json(const WebhookEndpoint& e, bool with_secret) {
  json::object object{{"id", e.id.value},
                      {"object", "webhook_endpoint"},
                      {"created_at", seconds(e.created_at)},
                      {"updated_at", seconds(e.updated_at)},
                      {"disabled_at", optional_time(e.disabled_at)},
                      {"name", e.name},
                      {"url", e.url},
                      {"event_types", json::value_from(e.event_types)},
                      {"signing_secret_hint", "whsec_…" + e.secret.substr(e.secret.size() - 4)}};
  if (with_secret) object["signing_secret"] = e.secret;
  return json::serialize(object);
}

std::string endpoint_test(const EndpointId& id, const std::string& event, int status) {
  return json::serialize(json::object{{"object", "webhook_endpoint.test"},
                                      {"webhook_endpoint_id", id.value},
                                      {"event_type", event},
                                      {"status_code", status},
                                      {"success", status >= 200 && status < 300}});
}

std::string deleted_endpoint(const EndpointId& id) {
  return json::serialize(json::object{{"id", id.value}, {"object", "webhook_endpoint.deleted"}, {"deleted", true}});
}

std::string event_type_list() {
  return json::serialize(json::object{{"object", "list"}, {"data", json::value_from(event_types())}});
}

json::object delivery_object(const Delivery& d) {
  const json::value parsed = json::parse(d.receiver);
  const json::object& receiver = parsed.as_object();
  const auto shown = [&](const char* name) {
    const json::value* value = receiver.if_contains(name);
    return value ? *value : json::value();
  };
  const bool pending = d.status == DeliveryStatus::pending, delivered = d.status == DeliveryStatus::delivered;
  return {{"id", d.id.value},
          {"object", "delivery"},
          {"batch_id", d.batch_id.value},
          {"kind", to_string(d.kind)},
          {"event", d.event},
          {"url", shown("url")},
          {"sink", shown("name")},
          {"status", to_string(d.status)},
          {"attempts", d.attempts},
          {"bytes_delivered", d.kind == DeliveryKind::sink ? json::value(d.position) : json::value()},
          {"last_error", d.last_error ? json::value(*d.last_error) : json::value()},
          {"created_at", seconds(d.created_at)},
          {"next_attempt_at", pending ? json::value(seconds(d.next_at)) : json::value()},
          {"delivered_at", delivered ? optional_time(d.ended_at) : json::value()}};
}

std::string to_json(const Delivery& delivery) {
  return json::serialize(delivery_object(delivery));
}

std::string deleted_delivery(const DeliveryId& id) {
  return json::serialize(json::object{{"id", id.value}, {"object", "delivery"}, {"deleted", true}});
}

}  // namespace penstock::wire
