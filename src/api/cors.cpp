#include "api/cors.h"

#include <algorithm>

namespace penstock {
namespace {

// What official clients send, and what handlers look at.
constexpr const char* kRequestHeaders =
    "authorization, content-type, idempotency-key, if-range, openai-beta, openai-organization, openai-project, range, "
    "user-agent, x-stainless-arch, x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, "
    "x-stainless-os, x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout";
constexpr const char* kResponseHeaders =
    "accept-ranges, content-range, openai-processing-ms, retry-after, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-request-id, x-should-retry";
constexpr const char* kMaxAge = "600";  // seconds that a browser need not ask again

// The request's origin if it is one of `allowed`.
std::optional<std::string_view> allowed_origin(const Request& request, const std::vector<std::string>& allowed) {
  const auto origin = request.headers.find("origin");
  if (!origin || std::find(allowed.begin(), allowed.end(), *origin) == allowed.end()) return std::nullopt;
  return origin;
}

}  // namespace

bool is_preflight(const Request& request, const std::vector<std::string>& allowed) {
  return request.method == "OPTIONS" && request.headers.find("access-control-request-method") &&
         allowed_origin(request, allowed);
}

Response preflight_response(std::string methods) {
  Response response{.status = 204};
  response.headers.add("Access-Control-Allow-Methods", std::move(methods));
  response.headers.add("Access-Control-Allow-Headers", kRequestHeaders);
  response.headers.add("Access-Control-Max-Age", kMaxAge);
  return response;
}

void add_cors_headers(Response& response, const Request& request, const std::vector<std::string>& allowed) {
  if (allowed.empty()) return;
  response.headers.add("Vary", "Origin");
  const auto origin = allowed_origin(request, allowed);
  if (!origin) return;
  response.headers.add("Access-Control-Allow-Origin", std::string(*origin));
  response.headers.add("Access-Control-Expose-Headers", kResponseHeaders);
}

}  // namespace penstock
