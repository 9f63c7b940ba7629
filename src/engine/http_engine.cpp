#include "engine/http_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <map>

#include "base/log.h"
#include "model/answer_stream.h"

namespace penstock {
namespace {

constexpr std::string_view kModels = "/v1/models";
constexpr Millis kProbeTimeout{5'000}, kAskTimeout{1'000}, kProbePauseMin{100}, kProbePauseMax{2'000};

// Retry-After in seconds (RFC 9110 section 10.2.3); its date form is not used by engines.
std::optional<Millis> retry_after(const Headers& headers) {
  const auto text = headers.find("retry-after");
  if (!text) return std::nullopt;
  double seconds = 0;
  const auto error = std::from_chars(text->data(), text->data() + text->size(), seconds).ec;
  if (error != std::errc{} || std::isnan(seconds)) return std::nullopt;
  return Millis(static_cast<std::int64_t>(std::clamp(seconds, 0.0, 120.0) * 1000));
}

std::vector<std::string> listed_models(const std::string& body) {
  std::vector<std::string> models;
  boost::system::error_code error;
  const auto root = boost::json::parse(body, error);
  const auto* object = error ? nullptr : root.if_object();
  const auto* data = object ? object->if_contains("data") : nullptr;
  if (!data || !data->is_array()) return models;
  for (const auto& item : data->get_array()) {
    const auto* model = item.if_object();
    const auto* id = model ? model->if_contains("id") : nullptr;
    if (id && id->is_string()) models.emplace_back(id->get_string());
  }
  std::sort(models.begin(), models.end());  // some list them in another order each time
  return models;
}

bool is_event_stream(const Headers& headers) {
  return headers.find("content-type").value_or("").starts_with("text/event-stream");
}

// Paths of the API begin with /v1, others do not: whether the base path ends in it makes no difference.
Endpoint at_root(Endpoint endpoint) {
  if (endpoint.base_path.ends_with("/v1")) endpoint.base_path.resize(endpoint.base_path.size() - 3);
  return endpoint;
}

// llama-server's "total_slots"; 0 when there is none.
int told_slots(const std::string& props) {
  boost::system::error_code error;
  const auto root = boost::json::parse(props, error);
  const auto* object = error ? nullptr : root.if_object();
  const auto* slots = object ? object->if_contains("total_slots") : nullptr;
  return slots && slots->is_int64() ? static_cast<int>(std::clamp<std::int64_t>(slots->get_int64(), 0, 100'000)) : 0;
}

// The value of a line of Prometheus' text format, "name{labels} value [time]", which may not be well-formed.
double metric_value(std::string_view line) {
  if (const auto labels = line.rfind('}'); labels != std::string_view::npos) line.remove_prefix(labels);
  line.remove_prefix(std::min(line.find(' '), line.size()));
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  double value = 0;
  std::from_chars(line.data(), line.data() + line.size(), value);
  return std::isfinite(value) ? std::clamp(value, 0.0, 1e6) : 0;
}

// What vLLM, SGLang or llama-server say at /metrics; nothing when it is another engine's. Those of several replicas are
// added up.
std::optional<Load> told_load(std::string_view metrics) {
  static const std::map<std::string_view, double Load::*> gauges = {
      {"vllm:num_requests_running", &Load::running},  {"vllm:num_requests_waiting", &Load::waiting},
      {"vllm:kv_cache_usage_perc", &Load::cache},     {"vllm:gpu_cache_usage_perc", &Load::cache},
      {"sglang:num_running_reqs", &Load::running},    {"sglang:num_queue_reqs", &Load::waiting},
      {"sglang:token_usage", &Load::cache},           {"llamacpp:requests_processing", &Load::running},
      {"llamacpp:requests_deferred", &Load::waiting},
  };
  Load load;
  bool found = false;
  while (!metrics.empty()) {
    const std::string_view line = metrics.substr(0, metrics.find('\n'));
    metrics.remove_prefix(std::min(line.size() + 1, metrics.size()));
    const auto gauge = gauges.find(line.substr(0, line.find_first_of("{ ")));
    if (gauge == gauges.end()) continue;
    double& value = load.*gauge->second;
    value = gauge->second == &Load::cache ? std::max(value, metric_value(line)) : value + metric_value(line);
    found = true;
  }
  return found ? std::optional(load) : std::nullopt;
}

Answer::Kind answer_kind(SendFailure::Kind kind) {
  switch (kind) {
    case SendFailure::Kind::connect:
      return Answer::Kind::unreachable;
    case SendFailure::Kind::reset:
      return Answer::Kind::died;
    case SendFailure::Kind::timeout:
      return Answer::Kind::timeout;
    case SendFailure::Kind::too_large:
      return Answer::Kind::too_large;
    case SendFailure::Kind::truncated:
    case SendFailure::Kind::malformed:
      break;
  }
  return Answer::Kind::broken;
}

}  // namespace

HttpEngine::HttpEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed)
    : clock_(clock),
      options_(std::move(options)),
      changed_(std::move(changed)),
      client_(loop, clock, at_root(options_.endpoint), {.idle_connections_max = 1024}),
      headers_("Content-Type: application/json\r\n"),
      down_(loop) {
  if (!options_.key.empty()) headers_ += fmt::format("Authorization: Bearer {}\r\n", options_.key);
}

void HttpEngine::mark_down() {
  client_.close_idle();  // those of probes too
  if (!ready_) return;
  ready_ = false;
  down_.notify();
  changed_();
}

boost::system::result<std::vector<std::string>, HttpEngine::Problem> HttpEngine::models_in(
    const ClientResponse& response) const {
  const std::string& only = options_.only_model;
  if (response.status == 404 && !only.empty()) return std::vector{only};
  if (response.status != 200) {
    return Problem{.message = fmt::format("GET {} was answered {}", kModels, response.status),
                   .certain = response.status == 401 || response.status == 403};
  }
  std::vector<std::string> models = listed_models(response.body);
  if (only.empty()) return models;
  if (std::find(models.begin(), models.end(), only) != models.end()) return std::vector{only};
  return Problem{.message = fmt::format("it does not serve the model {}", only), .certain = true};
}

Task<std::optional<HttpEngine::Problem>> HttpEngine::probe() {
  const ClientRequest request{"GET", kModels, headers_, ""};
  auto response = co_await client_.send(request, kProbeTimeout);
  if (!response) {
    const SendFailure::Kind kind = response.error().kind;
    co_return Problem{.message = response.error().message,
                      .certain = kind == SendFailure::Kind::connect || kind == SendFailure::Kind::reset};
  }
  auto models = models_in(*response);
  if (!models) co_return models.error();
  if (*models != models_) {
    models_ = std::move(*models);
    ++models_changes_;
  }
  co_return std::nullopt;
}

Task<std::optional<ClientResponse>> HttpEngine::ask(std::string_view path) {
  const ClientRequest request{"GET", path, headers_, ""};
  auto response = co_await client_.send(request, kAskTimeout);
  if (!response) co_return std::nullopt;
  co_return std::move(*response);
}

Task<std::optional<Load>> HttpEngine::load() {
  if (!ready_ || tells_load_ == false) co_return std::nullopt;
  const std::optional<ClientResponse> metrics = co_await ask("/metrics");
  if (!metrics) co_return std::nullopt;
  const bool is_page = metrics->status == 200;
  const std::optional<Load> load = is_page ? told_load(metrics->body) : std::nullopt;
  if (load) {
    tells_load_ = true;
  } else if (!tells_load_ && (is_page || metrics->status == 404 || metrics->status == 501)) {
    // Any other status may be that of a moment, or of what stands between.
    log::info("engine {} does not tell its load at /metrics", options_.name);
    tells_load_ = false;
  }
  co_return load;
}

Task<> HttpEngine::look_again() {
  const int changes = models_changes_;
  auto problem = co_await probe();
  if (problem && problem->certain) {
    if (ready_) log::warn("engine {} is down: {}", options_.name, problem->message);
    trouble_ = std::move(problem->message);
    mark_down();
  } else if (models_changes_ != changes) {
    log::info("engine {} has other models: {}", options_.name, fmt::join(models_, ", "));
    changed_();
  }
}

Task<> HttpEngine::pause(Millis time) {
  const double share = std::uniform_real_distribution<>(0.75, 1.0)(random_);
  co_await down_.wait_until(clock_, clock_.monotonic() + std::chrono::floor<Millis>(time * share));
}

Task<> HttpEngine::run() {
  while (true) {
    Millis time = kProbePauseMin;
    while (auto problem = co_await probe()) {
      // What lasts less than the longest pause is an ordinary start.
      if (time == kProbePauseMax && problem->message != trouble_)
        log::info("engine {} is not ready: {}", options_.name, problem->message);
      trouble_ = std::move(problem->message);
      co_await pause(time);
      time = std::min(2 * time, options_.probe_pause_max);
    }
    tells_load_.reset();
    told_slots_ = 0;
    if (options_.slots == 0) {
      const std::optional<ClientResponse> props = co_await ask("/props");
      if (props && props->status == 200) told_slots_ = told_slots(props->body);
    }
    log::info("engine {} is ready: {}", options_.name, fmt::join(models_, ", "));
    ready_ = true;
    trouble_.clear();
    changed_();
    while (ready_) {
      co_await pause(kProbePauseMax);
      if (ready_) co_await look_again();
    }
  }
}

Task<Answer::Kind> HttpEngine::cut_short() {
  co_await look_again();
  co_return ready_ ? Answer::Kind::broken : Answer::Kind::died;
}

Task<Answer> HttpEngine::send(std::string_view path, std::string_view body, std::size_t, std::string_view traceparent) {
  const bool streamed = options_.stream_answers && can_stream(path);
  const std::string asking = streamed ? asking_to_stream(path, body) : "";
  const std::string traced = traceparent.empty() ? "" : fmt::format("{}traceparent: {}\r\n", headers_, traceparent);
  const ClientRequest request{"POST", path, traced.empty() ? headers_ : traced, streamed ? asking : body};
  const int changes = models_changes_;
  const Greeting greeting{{"GET", kModels, headers_, ""}, [this, changes](const ClientResponse& response) {
                            const auto models = models_in(response);
                            return models && changes == models_changes_ && *models == models_;
                          }};
  auto response = co_await client_.send(request, options_.line_timeout, &greeting);
  Answer answer;
  if (!response) {
    answer.kind = answer_kind(response.error().kind);
    answer.message = std::move(response.error().message);
    if (answer.kind == Answer::Kind::unreachable || answer.kind == Answer::Kind::died) {
      if (ready_) log::warn("engine {} is down: {}", options_.name, answer.message);
      trouble_ = answer.message;
      mark_down();
    } else if (response.error().kind == SendFailure::Kind::truncated) {
      answer.kind = co_await cut_short();
    }
    co_return answer;
  }
  answer.status = response->status;
  if (answer.status == 404) {
    if (changes == models_changes_) co_await look_again();
    if (!ready_ || changes != models_changes_) answer.kind = Answer::Kind::unreachable;  // the model has gone, not it
  }
  answer.body = std::move(response->body);
  if (streamed && answer.status == 200 && is_event_stream(response->headers)) {
    auto whole = whole_answer(answer.body);
    if (whole) {
      answer.status = whole->status;
      answer.body = std::move(whole->body);
    } else {
      answer.kind = co_await cut_short();
      answer.message = "The engine's stream ended before its answer was complete.";
    }
  }
  if (const auto id = response->headers.find("x-request-id")) answer.request_id = *id;
  if (answer.status != 200) answer.retry_after = retry_after(response->headers);
  co_return answer;
}

}  // namespace penstock
