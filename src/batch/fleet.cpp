#include "batch/fleet.h"

#include <boost/json.hpp>
#include <iterator>

#include <unistd.h>

#include "base/log.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr double Pace::*kPaceNumbers[] = {&Pace::lines,        &Pace::bytes,   &Pace::prompt,   &Pace::answer,
                                          &Pace::work_squared, &Pace::seconds, &Pace::under_way};

struct Report {
  EngineReport engines;
  std::map<std::string, Pace> paces;  // by model
};

std::string to_json(const Report& report, const ProcessReport& process) {
  json::array served(report.engines.served.begin(), report.engines.served.end());
  json::object lost, paces;
  for (const auto& [model, trouble] : report.engines.lost) lost[model] = trouble;
  for (const auto& [model, pace] : report.paces) {
    json::array numbers;
    for (const auto number : kPaceNumbers) numbers.emplace_back(pace.*number);
    paces[model] = std::move(numbers);
  }
  return json::serialize(json::object{{"served", std::move(served)},
                                      {"lost", std::move(lost)},
                                      {"all_told", report.engines.all_told},
                                      {"one_ready", report.engines.one_ready},
                                      {"paces", std::move(paces)},
                                      {"process", to_json(process)}});
}

// One that cannot be read, of another version perhaps, says nothing.
Report parse(const std::string& text) {
  Report report;
  try {
    const json::value said = json::parse(text);
    for (const json::value& model : said.at("served").as_array()) {
      report.engines.served.emplace(model.as_string());
    }
    for (const auto& [model, trouble] : said.at("lost").as_object()) {
      report.engines.lost.emplace(model, trouble.as_string());
    }
    for (const auto& [model, numbers] : said.at("paces").as_object()) {
      Pace& pace = report.paces[model];
      for (std::size_t i = 0; i < std::size(kPaceNumbers); ++i) {
        pace.*kPaceNumbers[i] = numbers.as_array().at(i).to_number<double>();
      }
    }
    report.engines.one_ready = said.at("one_ready").as_bool();
    report.engines.all_told = said.at("all_told").as_bool();
  } catch (const std::exception&) {
    return {};
  }
  return report;
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

ProcessReport report_of(const Peer& peer) {
  ProcessReport report;
  report.id = peer.id;
  report.is_worker = peer.is_worker;
  report.last_seen_at = peer.seen_at;
  boost::system::error_code error;
  const json::value said = json::parse(peer.report, error);
  const json::object* members = said.if_object();
  if (const json::value* process = members ? members->if_contains("process") : nullptr) read(*process, report);
  return report;
}

}  // namespace

ProcessReport Fleet::own() const {
  ProcessReport report;
  report.id = options_.process;
  report.is_worker = dispatcher_ != nullptr;
  report.last_seen_at = clock_.now();
  report.host = host_name();
  report.version = PENSTOCK_VERSION;
  report.pid = ::getpid();
  report.started_at = started_at_;
  report.is_draining = retired_;
  report.is_disk_low = disk_low_;
  for (const EngineNow& engine : engines_.now()) {
    std::int64_t waiting = 0;
    for (const std::string& model : engine.models) waiting += dispatcher_ ? dispatcher_->waiting(model) : 0;
    report.engines.push_back({.name = engine.name,
                              .is_managed = engine.is_managed,
                              .is_shared = engine.is_shared,
                              .models = engine.models,
                              .state = std::string(to_string(engine.state)),
                              .reason = std::string(engine.trouble.substr(0, engine.trouble.find('\n'))),
                              .slots = engine.slots,
                              .slots_busy = engine.slots_busy,
                              .waiting = waiting,
                              .lines = engine.lines,
                              .lines_per_second = engine.lines_per_second,
                              .tokens_per_second = engine.tokens_per_second});
  }
  if (!dispatcher_) return report;
  for (const auto& [model, totals] : dispatcher_->totals().models) {
    report.lines += totals.completed + totals.failed;
    report.failed += totals.failed;
    report.usage += totals.tokens;
  }
  return report;
}

Task<std::vector<ProcessReport>> Fleet::processes() {
  std::vector<ProcessReport> all = {own()};
  if (!options_.shares) co_return all;
  const auto peers = co_await db_.read([](Store& store) { return store.peers(); });
  for (const Peer& peer : peers) {
    if (peer.id != options_.process) all.push_back(report_of(peer));
  }
  co_return all;
}

Fleet::Fleet(asio::io_context& loop, Clock& clock, Db& db, Engines& engines, Estimator& estimator, Lifecycle& lifecycle,
             Dispatcher* dispatcher, Options options)
    : clock_(clock),
      db_(db),
      engines_(engines),
      estimator_(estimator),
      lifecycle_(lifecycle),
      dispatcher_(dispatcher),
      options_(std::move(options)),
      sooner_(loop),
      looked_(loop),
      tasks_(loop) {}

Task<> Fleet::start() {
  started_at_ = clock_.now();
  const Moment asked = clock_.monotonic();
  co_await db_.write([this](Store& store) {
    if (!options_.shares) store.bury_all();
    store.join(options_.process, dispatcher_ != nullptr, clock_.now());
  });
  totals_.workers = dispatcher_ ? 1 : 0;
  if (options_.shares && dispatcher_) dispatcher_->hold_until(asked + kLease);
  tasks_.keep("beats", clock_, [this] { return run(); });
  if (options_.shares) tasks_.keep("taking over", clock_, [this] { return inherit(); });
}

void Fleet::heard(const std::string& batch) {
  if (batch.empty()) {
    sooner_.notify();
  } else {
    lifecycle_.look(BatchId{batch});
  }
  if (dispatcher_) dispatcher_->wake();
}

Task<> Fleet::stop() {
  tasks_.cancel();
  co_await tasks_.join();
  try {
    co_await db_.write([this](Store& store) { store.bury(options_.process); });
  } catch (const std::exception& e) {
    log::error("the end of this process could not be told; others will see it: {}", e.what());
  }
}

// While the database is away it tries as often as it beats: others may have it back already.
Task<> Fleet::run() {
  bool missed = false;
  while (true) {
    const Moment next = clock_.monotonic() + (options_.shares ? kBeat : kBeatAlone);
    co_await sooner_.wait_until(clock_, next);
    try {
      co_await beat();
      missed = false;
    } catch (const sql::Failure& e) {
      if (!std::exchange(missed, true)) log::warn("a beat could not be given: {}", e.what());
    }
  }
}

Task<> Fleet::beat() {
  const Moment asked = clock_.monotonic();
  const std::string report = to_json({engines_.report(), estimator_.own()}, own());
  std::vector<Peer> peers;
  const bool lives = co_await db_.write_at_once([&](Store& store) {
    const bool beats = store.beat(options_.process, report, clock_.now());
    if (!beats) store.join(options_.process, dispatcher_ != nullptr, clock_.now());
    if (options_.shares) peers = store.peers();
    return beats;
  });
  if (!options_.shares) co_return;
  if (!lives) {
    ++totals_.lease_losses;
    log::warn("others took this process for dead and have what it held; it begins anew");
    if (dispatcher_) dispatcher_->lose_all();
  }
  if (dispatcher_) dispatcher_->hold_until(asked + kLease);
  look_at(std::move(peers));
  looked_.notify();
  lifecycle_.look();
  if (dispatcher_) dispatcher_->wake();
}

void Fleet::look_at(std::vector<Peer> peers) {
  const Moment now = clock_.monotonic();
  std::vector<EngineReport> engines;
  std::map<std::string, Pace> paces;
  std::int64_t workers = 0;
  std::map<std::string, Seen> seen;
  dead_.clear();
  for (Peer& peer : peers) {
    workers += peer.is_worker;
    if (peer.id == options_.process) continue;
    Seen& look = seen[peer.id] = {peer.beats, now, 0};
    if (const auto before = seen_.find(peer.id); before != seen_.end() && before->second.beats == peer.beats) {
      look = before->second;
      ++look.looks;
    }
    if (look.looks >= kLooks && now - look.since >= kLease) dead_.push_back(peer);
    if (!peer.is_worker) continue;
    Report report = parse(peer.report);
    engines.push_back(std::move(report.engines));
    for (const auto& [model, pace] : report.paces) paces[model] = together(paces[model], pace);
  }
  seen_ = std::move(seen);
  totals_.workers = workers;
  engines_.set_others(std::move(engines));
  estimator_.set_others(std::move(paces));
  if (dispatcher_) dispatcher_->set_workers(workers);
}

// Not part of a beat, since it may have to wait for others in the database.
Task<> Fleet::inherit() {
  while (true) {
    co_await looked_.wait();
    const std::vector<Peer> dead = std::exchange(dead_, {});
    if (!dead.empty()) {
      const auto buried = co_await db_.write([&](Store& store) {
        std::vector<std::string> ids;
        for (const Peer& peer : dead) {
          if (store.bury(peer.id, peer.beats)) ids.push_back(peer.id);
        }
        return ids;
      });
      totals_.buried += static_cast<std::int64_t>(buried.size());
      for (const std::string& id : buried) log::warn("process {} gives no sign: what it held is free", id);
      if (!buried.empty() && dispatcher_) dispatcher_->wake();
    }
    if (!retired_) co_await lifecycle_.adopt();
  }
}

}  // namespace penstock
