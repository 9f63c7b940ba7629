#include "model/delivery.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <stdexcept>

#include "net/endpoint.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 2> kKindWords = {"webhook", "sink"};
constexpr std::array<std::string_view, 3> kStatusWords = {"pending", "delivered", "dead"};

template <class E, std::size_t N>
E parse(const std::array<std::string_view, N>& words, std::string_view word) {
  for (std::size_t i = 0; i < N; ++i) {
    if (words[i] == word) return static_cast<E>(i);
  }
  throw std::invalid_argument("no such word of a delivery: " + std::string(word));
}

}  // namespace

std::string_view to_string(DeliveryKind kind) {
  return kKindWords.at(static_cast<std::size_t>(kind));
}

std::string_view to_string(DeliveryStatus status) {
  return kStatusWords.at(static_cast<std::size_t>(status));
}

DeliveryKind parse_delivery_kind(std::string_view word) {
  return parse<DeliveryKind>(kKindWords, word);
}

DeliveryStatus parse_delivery_status(std::string_view word) {
  return parse<DeliveryStatus>(kStatusWords, word);
}

const std::vector<std::string>& event_types() {
  static const std::vector<std::string> all = {"batch.completed", "batch.failed", "batch.expired", "batch.cancelled"};
  return all;
}

std::string destination_of(std::string_view url) {
  const auto call = CallUrl::parse(url);
  if (!call) return "";
  std::string destination = fmt::format("{}:{}", call->endpoint.host, call->endpoint.port);
  for (char& c : destination) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return destination;
}

std::string event_body(const std::string& event, const Batch& batch, Timestamp now) {
  const auto id_or_null = [](const std::optional<FileId>& id) { return id ? json::value(id->value) : json::value(); };
  const Counts& counts = batch.counts;
  return json::serialize(json::object{
      {"id", random_id("evt_")},
      {"object", "event"},
      {"created_at", std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count()},
      {"type", event},
      {"data", {{"id", batch.id.value}}},
      {"batch_id", batch.id.value},
      {"status", to_string(batch.status)},
      {"output_file_id", id_or_null(batch.output_file_id)},
      {"error_file_id", id_or_null(batch.error_file_id)},
      {"request_counts", {{"total", counts.total}, {"completed", counts.completed}, {"failed", counts.failed}}}});
}

std::vector<Delivery> deliveries_of(const Batch& batch, const std::vector<WebhookEndpoint>& endpoints, Timestamp now) {
  const std::string event = fmt::format("batch.{}", to_string(batch.status));
  const std::string body = event_body(event, batch, now);
  std::vector<Delivery> all;
  const auto add = [&](DeliveryKind kind, const json::object& receiver, std::string destination) {
    all.push_back({.id = {random_id("wh_")},
                   .project = batch.project,
                   .batch_id = batch.id,
                   .kind = kind,
                   .receiver = json::serialize(receiver),
                   .destination = std::move(destination),
                   .event = event,
                   .body = kind == DeliveryKind::webhook ? body : "",
                   .next_at = now,
                   .owner = std::nullopt,
                   .last_error = std::nullopt,
                   .created_at = now,
                   .ended_at = std::nullopt});
  };

  std::string told;  // a URL that is named twice is called once, and signed for
  if (batch.webhook) {
    const json::value webhook = json::parse(*batch.webhook);
    const json::array& events = webhook.at("events").as_array();
    if (std::find(events.begin(), events.end(), json::value(event)) != events.end()) {
      told = webhook.at("url").as_string();
      add(DeliveryKind::webhook, {{"url", told}, {"secret", webhook.at("secret")}}, destination_of(told));
    }
  }
  for (const auto& [key, url] : batch.metadata.value_or(Metadata{})) {
    if (key != "webhook_url" || url.empty() || url == told) continue;
    add(DeliveryKind::webhook, {{"url", url}, {"secret", nullptr}}, destination_of(url));
  }
  for (const WebhookEndpoint& endpoint : endpoints) {
    const auto& wanted = endpoint.event_types;
    if (endpoint.disabled_at || std::find(wanted.begin(), wanted.end(), event) == wanted.end()) continue;
    add(DeliveryKind::webhook, {{"endpoint_id", endpoint.id.value}, {"url", endpoint.url}},
        destination_of(endpoint.url));
  }
  if (batch.sinks && (batch.output_file_id || batch.error_file_id)) {
    const json::value sinks = json::parse(*batch.sinks);
    for (const json::value& sink : sinks.as_array()) {
      const json::object& receiver = sink.as_object();
      const json::value* name = receiver.if_contains("name");
      add(DeliveryKind::sink, receiver,
          name ? std::string(name->as_string()) : destination_of(receiver.at("url").as_string()));
    }
  }
  return all;
}

}  // namespace penstock
