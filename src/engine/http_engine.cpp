#include "engine/http_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>

#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kProbeTimeout{5'000}, kProbePauseMin{100}, kProbePauseMax{2'000};

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
  return models;
}

Answer::Kind answer_kind(SendFailure::Kind kind) {
  switch (kind) {
    case SendFailure::Kind::connect:
    case SendFailure::Kind::reset:
      return Answer::Kind::unreachable;
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
      client_(loop, clock, options_.endpoint, {}),
      headers_("Content-Type: application/json\r\n"),
      down_(loop) {
  if (!options_.key.empty()) headers_ += fmt::format("Authorization: Bearer {}\r\n", options_.key);
}

std::string HttpEngine::target(std::string_view path) const {
  // The client puts the base path in front, which may already end in the /v1 that `path` starts with.
  return std::string(options_.endpoint.base_path.ends_with("/v1") ? path.substr(3) : path);
}

void HttpEngine::mark_down() {
  if (!ready_) return;
  ready_ = false;
  client_.close_idle();
  down_.notify();
  changed_();
}

Task<std::optional<std::string>> HttpEngine::probe() {
  const std::string path = target("/v1/models");
  auto response = co_await client_.send({"GET", path, headers_, ""}, kProbeTimeout);
  if (!response) co_return response.error().message;
  if (response->status == 404 && !options_.only_model.empty()) {
    models_ = {options_.only_model};
    co_return std::nullopt;
  }
  if (response->status != 200) co_return fmt::format("GET {} was answered {}", path, response->status);
  models_ = listed_models(response->body);
  if (!options_.only_model.empty()) {
    const bool listed = std::find(models_.begin(), models_.end(), options_.only_model) != models_.end();
    if (!listed) co_return fmt::format("it does not serve the model {}", options_.only_model);
    models_ = {options_.only_model};
  }
  co_return std::nullopt;
}

Task<> HttpEngine::run() {
  while (true) {
    Millis pause = kProbePauseMin;
    while (auto problem = co_await probe()) {
      // What lasts less than the longest pause is an ordinary start.
      if (pause == kProbePauseMax && *problem != trouble_)
        log::info("engine {} is not ready: {}", options_.name, *problem);
      trouble_ = std::move(*problem);
      co_await sleep_until(clock_, clock_.monotonic() + pause);
      pause = std::min(2 * pause, kProbePauseMax);
    }
    log::info("engine {} is ready: {}", options_.name, fmt::join(models_, ", "));
    ready_ = true;
    trouble_.clear();
    changed_();
    while (ready_) co_await down_.wait();
  }
}

Task<Answer> HttpEngine::send(std::string_view path, std::string_view body) {
  const std::string full = target(path);
  auto response = co_await client_.send({"POST", full, headers_, body}, options_.line_timeout);
  Answer answer;
  if (!response) {
    answer.kind = answer_kind(response.error().kind);
    answer.message = std::move(response.error().message);
    if (answer.kind == Answer::Kind::unreachable) {
      if (ready_) log::warn("engine {} is down: {}", options_.name, answer.message);
      trouble_ = answer.message;
      mark_down();
    }
    co_return answer;
  }
  answer.status = response->status;
  answer.body = std::move(response->body);
  if (const auto id = response->headers.find("x-request-id")) answer.request_id = *id;
  if (answer.status != 200) answer.retry_after = retry_after(response->headers);
  co_return answer;
}

}  // namespace penstock
