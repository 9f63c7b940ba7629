#include "api/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "api/admin.h"
#include "api/cors.h"
#include "api/views.h"
#include "base/log.h"
#include "model/wire.h"
#include "store/access.h"

namespace penstock {
namespace {

constexpr std::int64_t kCountMax = 100'000'000'000;  // seconds too: 3,000 years

// Who may ask. What says nothing is the administrators'.
enum class Permission {
  admin,  // keys with that scope, and so on
  files,
  batches,
  monitor,  // what the system does, and no data
  any,      // any key
  open      // anybody, with or without a key
};

std::optional<Scope> needed(Permission permission) {
  switch (permission) {
    case Permission::admin:
      return Scope::admin;
    case Permission::files:
      return Scope::files;
    case Permission::batches:
      return Scope::batches;
    case Permission::monitor:
      return Scope::monitor;
    case Permission::any:
    case Permission::open:
      break;
  }
  return std::nullopt;
}

struct Route {
  std::string_view method, path;
  Permission permission;
  Task<Response> (*handler)(Context&);
  bool brings_work = false;  // what it makes is left to do, or to keep
};

// {id} stands for one path segment, {name} for all that is left: names of models have slashes.
constexpr std::array kRoutes = {
    Route{"POST", "/v1/files", Permission::files, create_file, true},
    Route{"GET", "/v1/files", Permission::files, list_files},
    Route{"GET", "/v1/files/{id}", Permission::files, get_file},
    Route{"DELETE", "/v1/files/{id}", Permission::files, delete_file},
    Route{"GET", "/v1/files/{id}/content", Permission::files, get_file_content},
    Route{"POST", "/v1/uploads", Permission::files, create_upload, true},
    Route{"POST", "/v1/uploads/{id}/parts", Permission::files, create_part, true},
    Route{"POST", "/v1/uploads/{id}/complete", Permission::files, complete_upload, true},
    Route{"POST", "/v1/uploads/{id}/cancel", Permission::files, cancel_upload},
    Route{"POST", "/v1/batches", Permission::batches, create_batch, true},
    Route{"GET", "/v1/batches", Permission::batches, list_batches},
    Route{"GET", "/v1/batches/{id}", Permission::batches, get_batch},
    Route{"POST", "/v1/batches/{id}", Permission::batches, update_batch},
    Route{"POST", "/v1/batches/{id}/cancel", Permission::batches, cancel_batch},
    Route{"POST", "/v1/batches/{id}/retry", Permission::batches, retry_batch, true},
    Route{"POST", "/v1/batches/{id}/pause", Permission::batches, pause_batch},
    Route{"POST", "/v1/batches/{id}/resume", Permission::batches, resume_batch},
    Route{"GET", "/v1/batches/{id}/results", Permission::batches, follow_results},
    Route{"GET", "/v1/batches/{id}/events", Permission::batches, follow_events},
    Route{"GET", "/v1/batches/{id}/lines", Permission::batches, list_lines},
    Route{"GET", "/v1/batches/{id}/comparison", Permission::batches, compare_batches},
    Route{"POST", "/v1/webhook_endpoints", Permission::batches, create_endpoint},
    Route{"GET", "/v1/webhook_endpoints", Permission::batches, list_endpoints},
    Route{"GET", "/v1/webhook_endpoints/{id}", Permission::batches, get_endpoint},
    Route{"POST", "/v1/webhook_endpoints/{id}", Permission::batches, update_endpoint},
    Route{"DELETE", "/v1/webhook_endpoints/{id}", Permission::batches, delete_endpoint},
    Route{"POST", "/v1/webhook_endpoints/{id}/rotate_secret", Permission::batches, rotate_secret},
    Route{"POST", "/v1/webhook_endpoints/{id}/test", Permission::batches, test_endpoint},
    Route{"GET", "/v1/webhook_event_types", Permission::batches, list_event_types},
    Route{"GET", "/v1/deliveries", Permission::batches, list_deliveries},
    Route{"GET", "/v1/deliveries/{id}", Permission::batches, get_delivery},
    Route{"POST", "/v1/deliveries/{id}/retry", Permission::batches, retry_delivery},
    Route{"DELETE", "/v1/deliveries/{id}", Permission::batches, delete_delivery},
    Route{"GET", "/v1/queue", Permission::batches, get_queue},
    Route{"GET", "/v1/organization/audit_logs", Permission::admin, list_audit_logs},
    Route{"GET", "/v1/models", Permission::any, list_models},
    Route{"GET", "/v1/models/{name}", Permission::any, get_model},
    Route{"GET", "/v1/organization/projects", Permission::admin, list_projects},
    Route{"POST", "/v1/organization/projects", Permission::admin, create_project},
    Route{"GET", "/v1/organization/projects/{id}", Permission::admin, get_project},
    Route{"POST", "/v1/organization/projects/{id}", Permission::admin, update_project},
    Route{"POST", "/v1/organization/projects/{id}/archive", Permission::admin, archive_project},
    Route{"GET", "/v1/organization/api_keys", Permission::admin, list_keys},
    Route{"POST", "/v1/organization/api_keys", Permission::admin, create_key},
    Route{"GET", "/v1/organization/api_keys/{id}", Permission::admin, get_key},
    Route{"POST", "/v1/organization/api_keys/{id}/rotate", Permission::admin, rotate_key},
    Route{"DELETE", "/v1/organization/api_keys/{id}", Permission::admin, revoke_key},
    Route{"GET", "/healthz", Permission::open, health},
    Route{"GET", "/openapi.json", Permission::open, get_openapi},
    Route{"GET", "/health", Permission::open, health},
    Route{"GET", "/readyz", Permission::open, get_ready},
    Route{"GET", "/ready", Permission::open, get_ready},
    Route{"GET", "/v1/whoami", Permission::any, get_whoami},
    Route{"GET", "/v1/engines", Permission::monitor, list_engines},
    Route{"GET", "/v1/workers", Permission::monitor, list_workers},
    Route{"GET", "/v1/stats", Permission::monitor, get_stats},
    Route{"GET", "/v1/events", Permission::batches, follow_topics},
    Route{"GET", "/v1/settings", Permission::admin, list_settings},
    Route{"GET", "/v1/jobs/history", Permission::batches, list_job_history},
    Route{"GET", "/v1/jobs/stats", Permission::batches, get_job_stats},
    Route{"GET", "/", Permission::open, get_page},
    Route{"GET", "/favicon.svg", Permission::open, get_page},
    Route{"GET", "/assets/{name}", Permission::open, get_page},
    Route{"GET", "/metrics", Permission::monitor, get_metrics},
};

// What {id} or {name} stands for in `path`, empty for a route without one; nothing when the route is another.
std::optional<std::string_view> match(std::string_view route, std::string_view path) {
  const auto at = route.find('{');
  if (at == std::string_view::npos) return route == path ? std::optional(std::string_view()) : std::nullopt;
  const auto before = route.substr(0, at), after = route.substr(route.find('}') + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after)) {
    return std::nullopt;
  }
  const auto id = path.substr(before.size(), path.size() - before.size() - after.size());
  if (route.substr(at).starts_with("{id}") && id.find('/') != std::string_view::npos) return std::nullopt;
  return id;
}

Response plain_error(int status, std::string message) {
  const auto kind = status >= 500 ? Error::Kind::unavailable : Error::Kind::invalid_request;
  return json_response(wire::to_json(Error{.kind = kind, .message = std::move(message)}), status);
}

Response no_space() {
  return error_response({.kind = Error::Kind::no_space,
                         .message = "The server's disk is full. Free space, or try again later.",
                         .code = "insufficient_storage"});
}

bool is_full_disk(const std::exception& e) {
  if (const auto* failure = dynamic_cast<const sql::Failure*>(&e)) {
    return failure->kind() == sql::Failure::Kind::no_space;
  }
  const auto* error = dynamic_cast<const std::system_error*>(&e);
  return error && (error->code() == std::errc::no_space_on_device || error->code().value() == EDQUOT);
}

// What can go well in a while, since the database is away or others are in the way there.
bool is_database_away(const std::exception& e) {
  using Kind = sql::Failure::Kind;
  const auto* failure = dynamic_cast<const sql::Failure*>(&e);
  return failure &&
         (failure->kind() == Kind::away || failure->kind() == Kind::busy || failure->kind() == Kind::conflict);
}

Response away(std::string_view what, const std::string& code) {
  return error_response({.kind = Error::Kind::unavailable,
                         .message = fmt::format("The server's {} is away. Try again soon.", what),
                         .code = code});
}

Response failed(const std::exception& e) {
  if (is_full_disk(e)) return no_space();
  if (is_database_away(e)) return away("database", "database_away");
  if (dynamic_cast<const StorageAway*>(&e)) return away("storage of files", "storage_away");
  return plain_error(500, "The server had an error while processing your request.");
}

// Why nothing is taken that would be left to do, or to keep.
std::optional<Response> refuse_work(const Services& services) {
  if (services.draining) {
    return error_response({.kind = Error::Kind::unavailable,
                           .message = "The server is about to end and takes nothing new. Try again soon.",
                           .code = "draining"});
  }
  if (services.disk_low) return no_space();
  return std::nullopt;
}

// Of browsers: an answer is taken for nothing but what it says it is, loads and runs nothing, stands in no page of
// others, and is kept in no cache. A handler may say something else.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kSecurityHeaders = {{
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
}};

// Counts a request against its project's rate; nothing when that has none. While the database is away, what was is.
Task<std::optional<RequestRate>> count_request(Services& services, const ProjectId& project) {
  const Moment now = services.clock.monotonic();
  if (services.rates.must_ask(project, now)) {
    try {
      const auto found = co_await services.db.read([&](Store& store) { return Access(store).find_project(project); });
      services.rates.set(project, found ? found->quotas.requests_per_second : std::nullopt, now);
    } catch (const sql::Failure&) {
      if (!services.rates.keep(project, now)) throw;
    }
  }
  co_return services.rates.count(project, now);
}

Response too_many_requests(const RequestRate& rate) {
  return error_response(
      {.kind = Error::Kind::too_many_requests,
       .message = fmt::format("This project may send {} requests a second to this server, and has. Try again soon.",
                              rate.limit),
       .code = "rate_limit_exceeded"});
}

void add_headers(Response& response, const RequestRate& rate) {
  response.headers.add("x-ratelimit-limit-requests", std::to_string(rate.limit));
  response.headers.add("x-ratelimit-remaining-requests", std::to_string(rate.remaining));
  response.headers.add("x-ratelimit-reset-requests", fmt::format("{}ms", rate.reset.count()));
}

// Who asks for what everybody may know; nobody in particular where that cannot be told.
Task<Principal> anybody(Services& services, const Request& request) {
  try {
    const auto caller = co_await services.authenticator.authenticate(request);
    co_return caller ? *caller : Principal{};
  } catch (const sql::Failure&) {
    co_return Principal{};
  }
}

// Who asks, when that is somebody who may.
Task<Result<Principal>> authorize(Services& services, const Request& request, Permission permission) {
  if (permission == Permission::open) co_return co_await anybody(services, request);
  const auto caller = co_await services.authenticator.authenticate(request);
  if (!caller) co_return caller.error();
  if (const auto scope = needed(permission); scope && !allow(caller->scopes, *scope)) {
    co_return Error{
        Error::Kind::forbidden,
        fmt::format("You have insufficient permissions for this operation. Missing scopes: {}.", to_string(*scope)),
        "missing_scope"};
  }
  co_return *caller;
}

// What comes for as long as who asked for it still may.
class AuthorizedSource : public ByteSource {
 public:
  AuthorizedSource(Services& services, const Request& request, Permission permission,
                   std::unique_ptr<ByteSource> source)
      : services_(services), request_(request), permission_(permission), source_(std::move(source)) {}

  Task<std::string_view> next() override {
    const std::string_view bytes = co_await source_->next();
    const bool allowed = co_await is_allowed();
    if (!allowed) throw ClientGone("its key is good no more");
    co_return bytes;
  }

 private:
  // Nobody knows while the database is away: what was, is.
  Task<bool> is_allowed() {
    try {
      const auto caller = co_await authorize(services_, request_, permission_);
      co_return caller.has_value();
    } catch (const sql::Failure&) {
      co_return true;
    }
  }

  Services& services_;
  const Request& request_;  // it lives until the stream has gone
  const Permission permission_;
  const std::unique_ptr<ByteSource> source_;
};

// What every answer has.
void add_headers(Response& response, const std::string& request_id, Millis took) {
  for (const auto& [name, value] : kSecurityHeaders) {
    if (!response.headers.find(name)) response.headers.add(std::string(name), std::string(value));
  }
  response.headers.add("x-request-id", request_id);
  response.headers.add("openai-processing-ms", std::to_string(took.count()));
}

// One request, as those who look at it from outside see it.
struct Seen {
  std::string id = random_id("req_");
  const Route* route = nullptr;            // none: there is no such
  std::optional<TraceContext> trace = {};  // of its span; of its client's where no spans are sent
  std::string parent_span = {};            // its client's
};

Seen first_look(const Services& services, const Request& request) {
  Seen seen;
  seen.trace = parse_traceparent(request.headers.find("traceparent").value_or(""));
  if (seen.trace && services.tracer) seen.parent_span = std::exchange(seen.trace->span_id, random_span_id());
  return seen;
}

// What is not served is told to everybody: it stands in the description, which is everybody's too.
Task<Response> route(Services& services, Request& request, Seen& seen) {
  std::string allowed;
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& candidate : kRoutes) {
    const auto segment = match(candidate.path, request.path);
    if (!segment) continue;
    if (candidate.method != method) {
      allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", candidate.method);
      continue;
    }
    seen.route = &candidate;
    // Before a byte of the body is read.
    auto caller = co_await authorize(services, request, candidate.permission);
    if (!caller) co_return error_response(caller.error());
    auto id = percent_decode(*segment);
    if (!id) co_return plain_error(400, "The path of this request is not percent-encoded properly.");
    if (candidate.brings_work) {
      if (auto refused = refuse_work(services)) co_return std::move(*refused);
    }
    Context context{services, request, std::move(*id), std::move(*caller), seen.id, seen.trace};
    std::optional<RequestRate> rate;
    if (candidate.permission != Permission::open) rate = co_await count_request(services, context.caller.project);
    Response response;
    if (rate && !rate->is_within) {
      response = too_many_requests(*rate);
    } else {
      response = co_await candidate.handler(context);
    }
    if (rate) add_headers(response, *rate);
    if (response.stream && !response.stream_size) {  // there is no telling how long it goes on
      response.stream =
          std::make_unique<AuthorizedSource>(services, request, candidate.permission, std::move(response.stream));
    }
    co_return response;
  }
  if (allowed.empty())
    co_return plain_error(404, fmt::format("Unknown request URL: {} {}.", request.method, request.path));
  if (is_preflight(request, services.cors_origins)) co_return preflight_response(std::move(allowed));
  Response response = plain_error(405, fmt::format("Method {} is not allowed here.", request.method));
  response.headers.add("Allow", allowed);
  co_return response;
}

// For metrics, traces and the log. By templates: paths and methods of clients' own are no bounded set.
void note(Services& services, const Request& request, const Seen& seen, int status, Timestamp start, double seconds) {
  services.http.add(seen.route ? seen.route->path : "other", seen.route ? seen.route->method : "other", status,
                    seconds);
  log::debug(log::request(seen.id), "{} {} {} in {:.1f} ms", request.method, request.path, status, seconds * 1e3);
  if (!services.tracer || !seen.trace || !seen.route || status == 401) return;
  if (seen.route->permission == Permission::open) return;  // else anybody could fill the collector's queue
  Span span{.context = *seen.trace,
            .parent_id = seen.parent_span,
            .name = fmt::format("{} {}", seen.route->method, seen.route->path),
            .kind = Span::Kind::server,
            .start = start,
            .end = services.clock.now()};
  span.attributes = {{"http.request.method", std::string(seen.route->method)},
                     {"http.route", std::string(seen.route->path)},
                     {"http.response.status_code", std::int64_t{status}}};
  if (status >= 500) span.error = "";
  services.tracer->add(span);
}

}  // namespace

Response refuse(const HttpError& error) {
  Response response = plain_error(error.status(), error.what());
  add_headers(response, random_id("req_"), Millis{0});
  return response;
}

std::vector<RouteName> route_names() {
  std::vector<RouteName> names;
  for (const Route& route : kRoutes) names.push_back({route.method, route.path});
  return names;
}

Task<Response> dispatch(Services& services, Request& request) {
  const metrics::Stopwatch watch;
  const Timestamp start = services.clock.now();
  Seen seen = first_look(services, request);
  Response response;
  try {
    response = co_await route(services, request, seen);
  } catch (const ClientGone&) {
    throw;
  } catch (const HttpError& e) {
    response = plain_error(e.status(), e.what());
  } catch (const std::exception& e) {
    if (is_cancelled(e)) throw;
    log::error(log::request(seen.id), "{} {}: {}", request.method, request.path, e.what());
    response = failed(e);
  }
  const double seconds = watch.seconds();
  note(services, request, seen, response.status, start, seconds);
  add_headers(response, seen.id, Millis(static_cast<std::int64_t>(seconds * 1e3)));
  add_cors_headers(response, request, services.cors_origins);
  co_return response;
}

Response json_response(std::string body, int status) {
  Response response;
  response.status = status;
  response.headers.add("Content-Type", "application/json");
  response.body = std::move(body);
  return response;
}

Response error_response(const Error& error) {
  int status = 400;
  switch (error.kind) {
    case Error::Kind::invalid_request:
      break;
    case Error::Kind::not_found:
      status = 404;
      break;
    case Error::Kind::conflict:
      status = 409;
      break;
    case Error::Kind::key_reused:
      status = 422;
      break;
    case Error::Kind::too_large:
      status = 413;
      break;
    case Error::Kind::queue_full:
    case Error::Kind::too_many_requests:
    case Error::Kind::quota_exceeded:
      status = 429;
      break;
    case Error::Kind::unauthorized:
      status = 401;
      break;
    case Error::Kind::forbidden:
      status = 403;
      break;
    case Error::Kind::no_space:
      status = 507;
      break;
    case Error::Kind::unavailable:
      status = 503;
      break;
  }
  Response response = json_response(wire::to_json(error), status);
  if (status == 401) response.headers.add("WWW-Authenticate", "Bearer");
  // Official clients retry 409, which changes nothing here, and give up on long waits.
  if (status == 409 || status == 507 || error.kind == Error::Kind::quota_exceeded) {
    response.headers.add("x-should-retry", "false");
  } else if (status == 429 || status == 503) {
    response.headers.add("Retry-After", error.kind == Error::Kind::too_many_requests ? "1" : "10");
  }
  return response;
}

Result<std::int64_t> limit_param(const Request& request, std::int64_t fallback, std::int64_t max) {
  const auto text = query_param(request.query, "limit");
  if (!text) return fallback;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{} || end != text->data() + text->size() || value < 1 || value > max) {
    return invalid_request(fmt::format("Invalid 'limit': expected an integer from 1 to {}.", max), "limit");
  }
  return value;
}

Result<std::optional<std::int64_t>> count_param(const Request& request, const char* name) {
  const auto text = query_param(request.query, name);
  if (!text) return std::optional<std::int64_t>();
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{} || end != text->data() + text->size() || value < 0 || value > kCountMax) {
    return invalid_request(fmt::format("Invalid '{}': expected an integer from 0 to {}.", name, kCountMax), name);
  }
  return std::optional(value);
}

Result<BatchFilter> filter_params(const Request& request) {
  BatchFilter filter;
  if (const auto status = query_param(request.query, "status")) {
    try {
      filter.status = parse_batch_status(*status);
    } catch (const std::invalid_argument&) {
      return invalid_request(fmt::format("Invalid 'status': '{}' is no status of a batch.", *status), "status");
    }
  }
  filter.model = query_param(request.query, "model");
  filter.search = query_param(request.query, "search").value_or("");
  for (const auto& [name, time] :
       {std::pair("created_after", &BatchFilter::created_after), std::pair("start_date", &BatchFilter::created_after),
        std::pair("created_before", &BatchFilter::created_before),
        std::pair("end_date", &BatchFilter::created_before)}) {
    const auto seconds = count_param(request, name);
    if (!seconds) return seconds.error();
    if (*seconds) filter.*time = Timestamp(std::chrono::seconds(**seconds));
  }
  return filter;
}

}  // namespace penstock
