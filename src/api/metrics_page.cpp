#include "api/metrics_page.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "batch/fleet.h"

namespace penstock {
namespace {

using metrics::Exposition;

constexpr Millis kLookAgain{1'000};

double seconds(Millis time) {
  return std::chrono::duration<double>(time).count();
}

// What the kernel knows of this process.
struct ProcessFigures {
  double cpu_seconds = 0, started_at = 0;
  std::int64_t virtual_bytes = 0, resident_bytes = 0, open_fds = 0, max_fds = 0;
};

std::int64_t boot_time() {
  std::ifstream stat("/proc/stat");
  for (std::string word; stat >> word;) {
    std::int64_t time = 0;
    if (word == "btime" && stat >> time) return time;
  }
  return 0;
}

// Blocks where there are many file descriptors.
ProcessFigures look_at_process() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));  // the name before may have spaces
  std::vector<std::string> all((std::istream_iterator<std::string>(fields)), {});
  constexpr std::size_t kUserTime = 11, kSystemTime = 12, kStartTime = 19, kVirtual = 20, kResident = 21;
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessFigures figures;
  figures.cpu_seconds = (std::stod(all.at(kUserTime)) + std::stod(all.at(kSystemTime))) / ticks;
  figures.started_at = static_cast<double>(boot_time()) + std::stod(all.at(kStartTime)) / ticks;
  figures.virtual_bytes = std::stoll(all.at(kVirtual));
  figures.resident_bytes = std::stoll(all.at(kResident)) * ::sysconf(_SC_PAGESIZE);
  std::error_code ignored;
  figures.open_fds = std::distance(std::filesystem::directory_iterator("/proc/self/fd", ignored), {});
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  figures.max_fds = static_cast<std::int64_t>(limit.rlim_cur);
  return figures;
}

void write_process(Exposition& page, const ProcessFigures& process) {
  page.counter("process_cpu_seconds_total", "CPU time that this process has used, engines not included.");
  page.sample({}, process.cpu_seconds);
  page.gauge("process_resident_memory_bytes", "Memory that it has in RAM.");
  page.sample({}, process.resident_bytes);
  page.gauge("process_virtual_memory_bytes", "Addresses that it has mapped.");
  page.sample({}, process.virtual_bytes);
  page.gauge("process_open_fds", "File descriptors that it has open.");
  page.sample({}, process.open_fds);
  page.gauge("process_max_fds", "File descriptors that it may have open.");
  page.sample({}, process.max_fds);
  page.gauge("process_start_time_seconds", "When it was started, in Unix time.");
  page.sample({}, process.started_at);
}

void write_worker(Exposition& page, const Totals& totals) {
  page.counter("penstock_lines_total", "Lines whose outcome this worker has saved.");
  for (const auto& [name, model] : totals.models) {
    page.sample({{"model", name}, {"outcome", "completed"}}, model.completed);
    page.sample({{"model", name}, {"outcome", "failed"}}, model.failed);
  }
  page.counter("penstock_tokens_total", "Tokens of these lines; those that an engine had cached are input, too.");
  for (const auto& [name, model] : totals.models) {
    page.sample({{"model", name}, {"kind", "input"}}, model.tokens.input);
    page.sample({{"model", name}, {"kind", "cached"}}, model.tokens.cached);
    page.sample({{"model", name}, {"kind", "output"}}, model.tokens.output);
  }
  page.histogram("penstock_line_duration_seconds", "Time that a line took with engines, over all attempts.");
  for (const auto& [name, model] : totals.models) page.sample({{"model", name}}, model.line_seconds);
  page.counter("penstock_line_retries_total", "Times that a line was to be sent again, by why.");
  for (std::size_t i = 0; i < totals.retries.size(); ++i) {
    page.sample({{"reason", retry::kReasons.at(i)}}, totals.retries.at(i));
  }
  page.histogram("penstock_commit_duration_seconds", "Time until a group of answers was saved.");
  page.sample({}, totals.commit_seconds);
  page.histogram("penstock_commit_lines", "Answers that were saved together.");
  page.sample({}, totals.commit_lines);
  page.counter("penstock_spans_lost_total", "Spans that another process had claimed when their answers came.");
  page.sample({}, totals.spans_lost);
}

void write_engines(Exposition& page, const std::vector<EngineNow>& engines) {
  // Several may have one name: the best state counts.
  std::map<std::string_view, EngineNow> by_name;
  for (const EngineNow& engine : engines) {
    const auto [same, is_new] = by_name.try_emplace(engine.name, engine);
    if (is_new) continue;
    same->second.state = std::min(same->second.state, engine.state);
    same->second.slots += engine.slots;
    same->second.slots_busy += engine.slots_busy;
  }
  constexpr EngineState kStates[] = {EngineState::ready, EngineState::starting, EngineState::standby, EngineState::down,
                                     EngineState::failed};
  page.gauge("penstock_engine_state", "1 for the state that the engine is in.");
  for (const auto& [name, engine] : by_name) {
    for (const EngineState state : kStates) {
      page.sample({{"engine", name}, {"state", to_string(state)}}, std::int64_t{engine.state == state});
    }
  }
  page.gauge("penstock_engine_slots", "Requests that it is given at a time; 0 while it is not ready.");
  for (const auto& [name, engine] : by_name) page.sample({{"engine", name}}, std::int64_t{engine.slots});
  page.gauge("penstock_engine_slots_busy", "Requests that it has under way.");
  for (const auto& [name, engine] : by_name) page.sample({{"engine", name}}, std::int64_t{engine.slots_busy});
}

void write_fleet(Exposition& page, const Fleet::Totals& totals) {
  page.gauge("penstock_workers", "Workers that live, by what this process sees.");
  page.sample({}, totals.workers);
  page.counter("penstock_lease_losses_total", "Times that others took this process for dead.");
  page.sample({}, totals.lease_losses);
  page.counter("penstock_processes_buried_total", "Processes that this one took for dead.");
  page.sample({}, totals.buried);
}

void write_deliveries(Exposition& page, const std::map<DeliveryKind, Deliveries::Totals>& kinds) {
  page.counter("penstock_delivery_attempts_total",
               "Attempts to deliver, by what came of them: delivered, again, or dead when there will be no other.");
  for (const auto& [kind, totals] : kinds) {
    page.sample({{"kind", to_string(kind)}, {"outcome", "delivered"}}, totals.delivered);
    page.sample({{"kind", to_string(kind)}, {"outcome", "again"}}, totals.again);
    page.sample({{"kind", to_string(kind)}, {"outcome", "dead"}}, totals.dead);
  }
}

void write_http(Exposition& page, const HttpTotals& totals) {
  page.counter("penstock_http_requests_total", "Requests that were answered, by route and class of status.");
  for (const auto& [route, counts] : totals.routes) {
    for (std::size_t i = 0; i < counts.by_class.size(); ++i) {
      if (counts.by_class.at(i) == 0) continue;
      const std::string status = fmt::format("{}xx", i + 1);
      page.sample({{"route", route.first}, {"method", route.second}, {"status", status}}, counts.by_class.at(i));
    }
  }
  page.histogram("penstock_http_request_duration_seconds", "Time to the head of the answer.");
  for (const auto& [route, counts] : totals.routes) {
    page.sample({{"route", route.first}, {"method", route.second}}, counts.seconds);
  }
}

}  // namespace

Task<> MetricsPage::look() {
  const Moment now = services_.clock.monotonic();
  if (looked_at_ && now - *looked_at_ < kLookAgain) co_return;
  looked_at_ = now;
  try {
    auto [queue, pending] = co_await services_.db.read(
        [](Store& store) { return std::pair(queue_figures(store), pending_deliveries(store)); });
    queue_ = std::move(queue);
    pending_deliveries_ = pending;
    database_up_ = true;
  } catch (const sql::Failure&) {
    database_up_ = false;
  }
}

void MetricsPage::write_queue(Exposition& page) const {
  using State = QueueFigures::State;
  page.gauge("penstock_database_up", "1 while the database answers.");
  page.sample({}, std::int64_t{database_up_});
  if (!database_up_) return;
  const auto each = [&](std::int64_t QueueFigures::*figure) {
    for (const int priority : {-1, 0, 1}) {
      for (const State state : {State::waiting, State::running, State::paused}) {
        std::int64_t value = 0;
        for (const QueueFigures& one : queue_) {
          if (one.priority == priority && one.state == state) value = one.*figure;
        }
        page.sample({{"priority", std::to_string(priority)}, {"state", to_string(state)}}, value);
      }
    }
  };
  page.gauge("penstock_queue_batches", "Batches that have not ended.");
  each(&QueueFigures::batches);
  page.gauge("penstock_queue_lines", "Lines that they have still to do.");
  each(&QueueFigures::lines);
  const Timestamp now = services_.clock.now();
  std::optional<Timestamp> oldest, next_expiry;
  for (const QueueFigures& one : queue_) {
    next_expiry = std::min(next_expiry.value_or(one.next_expiry), one.next_expiry);
    if (one.state == State::waiting) oldest = std::min(oldest.value_or(one.oldest), one.oldest);
  }
  page.gauge("penstock_queue_oldest_waiting_seconds", "Age of the oldest batch that has not begun; 0 when none waits.");
  page.sample({}, oldest ? seconds(now - *oldest) : 0.0);
  page.gauge("penstock_deadline_slack_seconds", "Time until the first batch expires; absent when all have ended.");
  if (next_expiry) page.sample({}, seconds(*next_expiry - now));
  page.gauge("penstock_deliveries_pending", "Deliveries that are neither delivered nor dead.");
  page.sample({}, pending_deliveries_);
}

Task<std::string> MetricsPage::write(metrics::Format format) {
  co_await look();
  const auto [process, disk] =
      co_await blocking(services_.io, [&] { return std::pair(look_at_process(), disk_room(services_.data)); });
  Exposition page(format);
  page.info("penstock_build_info", "The program.");
  page.sample({{"version", PENSTOCK_VERSION}}, std::int64_t{1});
  page.gauge("penstock_draining", "1 while this process takes nothing new, since it will end.");
  page.sample({}, std::int64_t{services_.draining});
  page.gauge("penstock_disk_low", "1 while the disk of the data folder is too full for any line to be sent.");
  page.sample({}, std::int64_t{services_.disk_low});
  page.gauge("penstock_disk_free_bytes", "Room on that disk.");
  page.sample({}, static_cast<std::int64_t>(disk.free));
  page.gauge("penstock_disk_size_bytes", "Its size.");
  page.sample({}, static_cast<std::int64_t>(disk.size));
  write_queue(page);
  page.counter("penstock_batches_ended_total", "Batches that this process has seen to their ends.");
  for (const auto& [status, count] : services_.lifecycle.ended()) page.sample({{"status", to_string(status)}}, count);
  if (services_.dispatcher) write_worker(page, services_.dispatcher->totals());
  write_engines(page, services_.engines.now());
  if (services_.fleet) write_fleet(page, services_.fleet->totals());
  write_deliveries(page, services_.deliveries.totals());
  write_http(page, services_.http);
  const Tracer::Totals spans = services_.tracer ? services_.tracer->totals() : Tracer::Totals{};
  page.counter("penstock_trace_spans_total", "Spans that were sent to the collector, and those that it did not take.");
  page.sample({{"outcome", "exported"}}, spans.exported);
  page.sample({{"outcome", "dropped"}}, spans.dropped);
  page.counter("penstock_uploaded_bytes_total", "Bytes of files and parts that were taken.");
  page.sample({}, services_.uploaded_bytes);
  write_process(page, process);
  co_return page.text();
}

Task<Response> metrics_response(MetricsPage& page, const Request& request) {
  const metrics::Format format = metrics::format_for(request.headers.find("accept").value_or(""));
  Response response;
  response.headers.add("Content-Type", std::string(metrics::content_type(format)));
  response.body = co_await page.write(format);
  co_return response;
}

Task<Response> get_metrics(Context& c) {
  return metrics_response(*c.services.metrics, c.request);
}

}  // namespace penstock
