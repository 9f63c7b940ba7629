#pragma once
#include "delivery/sender.h"
#include "net/address.h"
#include "net/trace.h"
#include "store/db.h"

namespace penstock {

// One event for one URL, as Standard Webhooks has it (https://www.standardwebhooks.com, version 1).
struct WebhookCall {
  std::string url;
  std::string id;                    // the same over all attempts
  std::string body;                  // JSON
  std::vector<std::string> secrets;  // each signs; none: it is not signed
  std::string traceparent = {};      // of the trace that it is a part of; empty: of none
};

struct WebhookAnswer {
  Outcome outcome;
  std::optional<int> status;  // none: there was no answer
};

// Posts it once. An answer is expected within 15 s, of which the status alone counts; redirects are failures. Only
// public addresses are called, and those that are allowed.
Task<WebhookAnswer> post_webhook(asio::io_context& loop, Clock& clock, const AllowList& allow, const WebhookCall& call);

// The value of the header webhook-signature. The key of `whsec_…` is what its Base64 stands for; of any other secret,
// its bytes.
std::string webhook_signature(const WebhookCall& call, std::int64_t timestamp);
// Whether it can sign; what begins with whsec_ must go on in Base64.
bool is_webhook_secret(std::string_view secret);
std::string new_webhook_secret();

// Why an event could never be posted to that URL: it is none, or its host is an address that may not be called. The
// error names the parameter.
Result<void> check_webhook_url(const std::string& url, const AllowList& allow, const std::string& param);

// Deliveries to webhooks: those of batches, and endpoints of projects. Loop thread only; the referenced parts must
// outlive it.
class WebhookSender : public Sender {
 public:
  // `tracer` may be null.
  WebhookSender(asio::io_context& loop, Clock& clock, Db& db, const AllowList& allow, Tracer* tracer = nullptr)
      : loop_(loop), clock_(clock), db_(db), allow_(allow), tracer_(tracer) {}
  Task<Outcome> send(const Delivery& delivery, DeliveryProgress& progress) override;

 private:
  asio::io_context& loop_;
  Clock& clock_;
  Db& db_;
  const AllowList& allow_;
  Tracer* const tracer_;
};

// The secrets that sign for an endpoint: two while an old one still does.
std::vector<std::string> secrets_of(const WebhookEndpoint& endpoint, Timestamp now);

}  // namespace penstock
