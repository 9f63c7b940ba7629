#include "delivery/webhook.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <boost/json.hpp>

#include "base/sha256.h"
#include "batch/batch_trace.h"
#include "delivery/schedule.h"
#include "store/outbox.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr Millis kTimeout{15'000};
constexpr std::size_t kAnswerMax = 1 << 10;
constexpr std::string_view kSecretPrefix = "whsec_";
constexpr const char* kNotPublic = "its address is not public";

std::string base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size =
      ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  const auto digits = std::min(text.find('='), text.size());
  const bool pads_at_the_end = text.find_first_not_of('=', digits) == std::string_view::npos;
  if (text.empty() || text.size() % 4 != 0 || text.size() - digits > 2 || !pads_at_the_end) return std::nullopt;
  std::string out(text.size(), '\0');
  const int size =
      ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  out.resize(static_cast<std::size_t>(size) - (text.size() - digits));  // it counts what pads
  return out;
}

std::optional<std::string> key_of(std::string_view secret) {
  if (!secret.starts_with(kSecretPrefix)) return std::string(secret);
  return from_base64(secret.substr(kSecretPrefix.size()));
}

// The host of a URL, without the brackets of an IPv6 address.
std::string_view bare(std::string_view host) {
  return host.starts_with('[') ? host.substr(1, host.size() - 2) : host;
}

Outcome judge(const ClientResponse& response) {
  const int status = response.status;
  if (status >= 200 && status < 300) return {};
  if (status == 410) return {Outcome::Kind::gone, "answered 410: it wants nothing any more", std::nullopt};
  std::string why = fmt::format("answered {}", status);
  if (status >= 300 && status < 400) why += ", and redirects are not followed";
  return {Outcome::Kind::again, std::move(why), retry_after(response.headers)};
}

Outcome judge(const SendFailure& failure) {
  switch (failure.kind) {
    case SendFailure::Kind::timeout:
      return {Outcome::Kind::again, fmt::format("did not answer within {} s", kTimeout.count() / 1000), std::nullopt};
    case SendFailure::Kind::connect:
      return {Outcome::Kind::again, "could not be connected to", std::nullopt};
    default:
      return {Outcome::Kind::again, "gave no proper answer", std::nullopt};
  }
}

}  // namespace

std::string webhook_signature(const WebhookCall& call, std::int64_t timestamp) {
  const std::string message = fmt::format("{}.{}.{}", call.id, timestamp, call.body);
  std::string all;
  for (const std::string& secret : call.secrets) {
    all += fmt::format("{}v1,{}", all.empty() ? "" : " ", base64(hmac_sha256(key_of(secret).value(), message)));
  }
  return all;
}

bool is_webhook_secret(std::string_view secret) {
  const auto key = key_of(secret);
  return key && !key->empty();
}

std::string new_webhook_secret() {
  std::string bytes(32, '\0');
  if (::RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) != 1) {
    throw std::runtime_error("there are no random bytes");
  }
  return std::string(kSecretPrefix) + base64(bytes);
}

Result<void> check_webhook_url(const std::string& url, const AllowList& allow, const std::string& param) {
  const auto call = CallUrl::parse(url);
  if (!call) return invalid_request(fmt::format("Invalid '{}': {}.", param, call.error().message), param);
  const std::string host(bare(call->endpoint.host));
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  const auto admit = allow.admit(host);
  if (error || !admit || admit(address)) return {};
  return invalid_request(
      fmt::format("Invalid '{}': {} is not a public address. Whoever runs this server can allow it with the setting "
                  "webhook_allow.",
                  param, host),
      param);
}

Task<WebhookAnswer> post_webhook(asio::io_context& loop, Clock& clock, const AllowList& allow,
                                 const WebhookCall& call) {
  const auto url = CallUrl::parse(call.url);
  if (!url) co_return WebhookAnswer{{Outcome::Kind::never, "its URL cannot be used", std::nullopt}, std::nullopt};
  bool refused = false;
  HttpClient::Options options{.body_size_max = kAnswerMax, .status_suffices = true};
  if (const auto admit = allow.admit(bare(url->endpoint.host))) {
    options.admit = [&refused, admit](const asio::ip::address& address) {
      refused = refused || !admit(address);
      return !refused;
    };
  }
  HttpClient client(loop, clock, url->endpoint, options);
  const std::int64_t timestamp = std::chrono::floor<std::chrono::seconds>(clock.now()).time_since_epoch().count();
  std::string headers = fmt::format("Content-Type: application/json\r\nUser-Agent: penstock/" PENSTOCK_VERSION
                                    "\r\nwebhook-id: {}\r\nwebhook-timestamp: {}\r\n",
                                    call.id, timestamp);
  if (!call.secrets.empty()) headers += fmt::format("webhook-signature: {}\r\n", webhook_signature(call, timestamp));
  if (!call.traceparent.empty()) headers += fmt::format("traceparent: {}\r\n", call.traceparent);
  const ClientRequest request{.method = "POST", .target = url->target, .headers = headers, .body = call.body};
  const auto response = co_await client.send(request, kTimeout);
  if (refused) co_return WebhookAnswer{{Outcome::Kind::never, kNotPublic, std::nullopt}, std::nullopt};
  if (!response) co_return WebhookAnswer{judge(response.error()), std::nullopt};
  co_return WebhookAnswer{judge(*response), response->status};
}

std::vector<std::string> secrets_of(const WebhookEndpoint& endpoint, Timestamp now) {
  std::vector<std::string> secrets{endpoint.secret};
  if (endpoint.old_secret && endpoint.old_secret_until && now < *endpoint.old_secret_until) {
    secrets.push_back(*endpoint.old_secret);
  }
  return secrets;
}

Task<Outcome> WebhookSender::send(const Delivery& delivery, DeliveryProgress&) {
  const json::value parsed = json::parse(delivery.receiver);
  const json::object& receiver = parsed.as_object();
  WebhookCall call{std::string(receiver.at("url").as_string()), delivery.id.value, delivery.body, {}};
  if (const json::value* id = receiver.if_contains("endpoint_id")) {
    const EndpointId endpoint_id{std::string(id->as_string())};
    const auto endpoint =
        co_await db_.read([&](Store& store) { return Outbox(store).find_endpoint(delivery.project, endpoint_id); });
    if (!endpoint) co_return Outcome{Outcome::Kind::never, "its endpoint was deleted", std::nullopt};
    if (endpoint->disabled_at) co_return Outcome{Outcome::Kind::never, "its endpoint is disabled", std::nullopt};
    call.url = endpoint->url;
    call.secrets = secrets_of(*endpoint, clock_.now());
  } else if (receiver.at("secret").is_string()) {
    call.secrets.emplace_back(receiver.at("secret").as_string());
  }
  std::optional<Span> span;
  if (tracer_) {
    const auto batch = co_await db_.read([&](Store& store) { return store.find_batch(delivery.batch_id); });
    if (batch) {
      const TraceContext whole = batch_span(batch->id, batch->traceparent, "batch");
      span = Span{.context = {whole.trace_id, random_span_id(), whole.sampled},
                  .parent_id = whole.span_id,
                  .name = "POST webhook",
                  .kind = Span::Kind::client,
                  .start = clock_.now()};
      call.traceparent = to_string(span->context);
    }
  }
  WebhookAnswer answer = co_await post_webhook(loop_, clock_, allow_, call);
  if (span) {
    span->end = clock_.now();
    span->attributes = {{"penstock.event", delivery.event}};
    if (answer.status) span->attributes.emplace_back("http.response.status_code", std::int64_t{*answer.status});
    if (answer.outcome.kind != Outcome::Kind::delivered) span->error = answer.outcome.why;
    tracer_->add(*span);
  }
  answer.outcome.url = call.url;
  co_return std::move(answer.outcome);
}

}  // namespace penstock
