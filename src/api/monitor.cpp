#include "api/monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>

#include "api/views.h"
#include "base/log.h"
#include "batch/fleet.h"
#include "model/json_fields.h"
#include "model/wire.h"
#include "store/queue_figures.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr Millis kFresh{900};  // of a snapshot; who follows asks once a second
constexpr Millis kForgotten{60'000}, kAskedAgain{1'000};

json::value or_null(const std::string& text) {
  return text.empty() ? json::value() : json::value(text);
}

double rounded(double rate) {
  return std::round(rate * 100) / 100;
}

json::object engine_json(const ProcessReport& process, const ProcessReport::Engine& engine) {
  return {{"object", "engine"},
          {"worker_id", process.id},
          {"name", engine.name},
          {"kind", engine.is_managed ? "managed" : "remote"},
          {"models", json::value_from(engine.models)},
          {"state", engine.state},
          {"reason", or_null(engine.reason)},
          {"slots", engine.slots},
          {"slots_busy", engine.slots_busy},
          {"waiting", engine.waiting},
          {"lines_per_second", rounded(engine.lines_per_second)},
          {"tokens_per_second", rounded(engine.tokens_per_second)},
          {"lines", engine.lines},
          {"shared", engine.is_shared}};
}

json::object worker_json(const ProcessReport& process) {
  std::int64_t slots = 0, slots_busy = 0;
  double lines_per_second = 0, tokens_per_second = 0;
  for (const ProcessReport::Engine& engine : process.engines) {
    slots += engine.slots;
    slots_busy += engine.slots_busy;
    lines_per_second += engine.lines_per_second;
    tokens_per_second += engine.tokens_per_second;
  }
  return {{"object", "worker"},
          {"id", process.id},
          {"is_worker", process.is_worker},
          {"host", process.host},
          {"pid", process.pid},
          {"version", process.version},
          {"started_at", wire::seconds(process.started_at)},
          {"last_seen_at", wire::seconds(process.last_seen_at)},
          {"slots", slots},
          {"slots_busy", slots_busy},
          {"engines", process.engines.size()},
          {"lines_per_second", rounded(lines_per_second)},
          {"tokens_per_second", rounded(tokens_per_second)},
          {"draining", process.is_draining},
          {"disk_low", process.is_disk_low}};
}

Response list_of(const std::vector<json::object>& items, const char* id) {
  std::vector<std::string> texts;
  for (const json::object& item : items) texts.push_back(json::serialize(item));
  const auto id_of = [&](const json::object& item) { return std::string(item.at(id).as_string()); };
  return json_response(
      wire::list(texts, items.empty() ? "" : id_of(items.front()), items.empty() ? "" : id_of(items.back()), false));
}

}  // namespace

Task<> Monitor::run() {
  while (true) {
    const Moment next = services_.clock.monotonic() + History::kFine;
    try {
      co_await look();
    } catch (const sql::Failure& failure) {
      log::debug("the figures of this step are left out: {}", failure.what());
    }
    co_await sleep_until(services_.clock, next);
  }
}

Task<> Monitor::look() {
  const auto processes = co_await services_.fleet->processes();
  const auto queue = co_await services_.db.read([](Store& store) { return queue_figures(store); });
  std::int64_t lines = 0, batches = 0;
  for (const QueueFigures& figures : queue) {
    lines += figures.lines;
    batches += figures.batches;
  }
  history_.add(processes, lines, batches, services_.clock.now());
}

Task<> Monitor::until_made(Snapshot& snapshot) {
  struct Place {
    explicit Place(Snapshot& s, asio::io_context& loop) : one(s), made(one.waiting.emplace(one.waiting.end(), loop)) {}
    ~Place() { one.waiting.erase(made); }
    Snapshot& one;
    const std::list<Event>::iterator made;
  };
  const Place place(snapshot, loop_);
  co_await place.made->wait();
}

Task<std::string> Monitor::snapshot(Handler handler, std::string query, Principal caller) {
  const Moment now = services_.clock.monotonic();
  std::erase_if(snapshots_, [&](const auto& item) {
    return item.second.use_count() == 1 && item.second->made_at.value_or(now) + kForgotten < now;
  });
  auto& place = snapshots_[{handler, caller.project}];
  if (!place) place = std::make_shared<Snapshot>();
  const std::shared_ptr<Snapshot> snapshot = place;
  while (snapshot->is_being_made) co_await until_made(*snapshot);
  if (snapshot->made_at && now - *snapshot->made_at < kFresh) co_return snapshot->json;

  struct Making {
    explicit Making(Snapshot& s) : one(s) { one.is_being_made = true; }
    ~Making() {
      one.is_being_made = false;
      for (Event& made : one.waiting) made.notify();
    }
    Snapshot& one;
  };
  const Making making(*snapshot);
  Request request;
  request.method = "GET";
  request.query = std::move(query);
  Context context{services_, request, "", std::move(caller)};
  const Response response = co_await handler(context);
  snapshot->json = response.status == 200 ? response.body : "";
  snapshot->made_at = now;
  co_return snapshot->json;
}

Task<std::vector<std::string>> Monitor::troubles() {
  const Moment now = services_.clock.monotonic();
  if (asked_at_ && now - *asked_at_ < kAskedAgain) co_return troubles_;
  std::vector<std::string> found;
  try {
    co_await services_.db.read([](Store& store) { return store.worker_last_seen(); });
  } catch (const sql::Failure&) {
    found.emplace_back("The database does not answer.");
  }
  try {
    co_await blocking(services_.io, [&] {
      services_.blobs.open(std::string(kIdentityKey));  // asks storage that is elsewhere
      services_.blobs.create("file-ready");             // asks a folder whether one may write there
    });
  } catch (const std::exception& e) {
    if (is_cancelled(e)) throw;
    found.emplace_back("The storage of files does not answer.");
  }
  troubles_ = found;
  asked_at_ = now;
  co_return found;
}

std::string to_json(const std::vector<Figures>& points, std::chrono::seconds step) {
  std::vector<std::string> items;
  for (const Figures& point : points) {
    items.push_back(fmt::format(
        R"({{"at":{},"lines":{},"failed":{},"input_tokens":{},"cached_tokens":{},"output_tokens":{},"queued_lines":{},)"
        R"("queued_batches":{},"slots":{},"slots_busy":{}}})",
        wire::seconds(point.at), point.lines, point.failed, point.usage.input, point.usage.cached, point.usage.output,
        point.queued_lines, point.queued_batches, point.slots, point.slots_busy));
  }
  return fmt::format(R"({{"object":"stats","step":{},"points":[{}]}})", step.count(), fmt::join(items, ","));
}

Task<Response> list_engines(Context& c) {
  std::vector<json::object> items;
  const auto processes = co_await c.services.fleet->processes();
  for (const ProcessReport& process : processes) {
    for (const ProcessReport::Engine& engine : process.engines) items.push_back(engine_json(process, engine));
  }
  co_return list_of(items, "name");
}

Task<Response> list_workers(Context& c) {
  std::vector<json::object> items;
  const auto processes = co_await c.services.fleet->processes();
  for (const ProcessReport& process : processes) items.push_back(worker_json(process));
  co_return list_of(items, "id");
}

Task<Response> get_stats(Context& c) {
  const auto step = query_param(c.request.query, "step").value_or("5");
  if (step != "5" && step != "60") {
    co_return error_response(invalid_request("Invalid 'step': must be '5' or '60'.", "step"));
  }
  const auto since = count_param(c.request, "since");
  if (!since) co_return error_response(since.error());
  const bool is_fine = step == "5";
  const auto& all = is_fine ? c.services.monitor->history().fine() : c.services.monitor->history().coarse();
  std::vector<Figures> points;
  std::copy_if(all.begin(), all.end(), std::back_inserter(points),
               [&](const Figures& point) { return !*since || wire::seconds(point.at) > **since; });
  const auto length = is_fine ? History::kFine : History::kCoarse;
  co_return json_response(co_await blocking(c.services.io, [&] { return to_json(points, length); }));
}

Task<Response> get_ready(Context& c) {
  std::vector<std::string> reasons;
  if (c.services.draining) {
    reasons.emplace_back("The server is about to end.");
  } else {
    reasons = co_await c.services.monitor->troubles();
  }
  if (reasons.empty()) co_return json_response(R"({"status":"ready"})");
  json::object said{{"status", "not_ready"}};
  if (allow(c.caller.scopes, Scope::monitor)) said["reasons"] = json::value_from(reasons);
  co_return json_response(json::serialize(said), 503);
}

Task<Response> list_settings(Context& c) {
  std::vector<json::object> items;
  for (const ShownSetting& setting : c.services.settings) {
    items.push_back({{"object", "setting"},
                     {"key", setting.key},
                     {"value", setting.value},
                     {"source", setting.source},
                     {"help", setting.help}});
  }
  co_return list_of(items, "key");
}

}  // namespace penstock
