#include "batch/fleet.h"

#include <boost/json.hpp>
#include <iterator>

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

std::string to_json(const Report& report) {
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
                                      {"paces", std::move(paces)}});
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

}  // namespace

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
  const std::string report = to_json({engines_.report(), estimator_.own()});
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
