#include "engine/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/log.h"

namespace penstock {
namespace {

constexpr double kWeight = 1.0 / 32;                      // of a line among the last ones
constexpr double kFaster = 1.5;                           // at least so many times: what engines take varies
constexpr Millis kLookAgain{250}, kLookAgainShared{100};  // at an engine's load

constexpr std::string_view kDenied = "it refuses our key";

EngineState state_of(const Engine& engine) {
  if (engine.ready()) return EngineState::ready;
  if (engine.hopeless()) return EngineState::failed;
  if (engine.starting()) return EngineState::starting;
  return engine.trouble().empty() ? EngineState::standby : EngineState::down;
}

// Whether the engine said, when it was last up, that it serves the model.
bool tells(const Engine& engine, std::string_view model) {
  const auto& models = engine.models();
  return std::find(models.begin(), models.end(), model) != models.end();
}

// No engine is to be expected to serve it, and one has told so.
bool is_gone_by(const EngineReport& report, std::string_view model) {
  return report.all_told && !report.served.contains(model) && (report.one_ready || report.lost.contains(model));
}

}  // namespace

std::string_view to_string(EngineState state) {
  switch (state) {
    case EngineState::ready:
      return "ready";
    case EngineState::starting:
      return "starting";
    case EngineState::standby:
      return "standby";
    case EngineState::down:
      return "down";
    case EngineState::failed:
      break;
  }
  return "failed";
}

Slot::Slot(Engines& engines, std::size_t number, bool alone) : engines_(&engines), number_(number), alone_(alone) {
  auto& item = engines.items_[number];
  request_ = item.concurrency.begin(engines.clock_.monotonic());
  item.begun.notify();
  item.alone = alone;
}

Slot::~Slot() {
  if (!engines_) return;
  auto& item = engines_->items_[number_];
  item.concurrency.end(engines_->clock_.monotonic());
  if (item.alone) item.freed.notify();
  if (alone_) item.alone = false;
  if (engines_->on_slot_free) engines_->on_slot_free();
}

Engine& Slot::engine() const {
  return *engines_->items_[number_].engine;
}

void Slot::report(Sign sign, Millis hold, double work) {
  auto& item = engines_->items_[number_];
  const Moment now = engines_->clock_.monotonic();
  if (hold > Millis{0}) item.held_until = std::max(item.held_until, now + hold);
  if (item.concurrency.is_news(request_)) {
    if (sign == Sign::good) item.denied = false;
    if (sign == Sign::denied && !std::exchange(item.denied, true)) {
      log::warn("engine {} refuses our key", item.engine->name());
    }
  }
  if (work > 0) {
    item.pace.add(std::chrono::duration<double>(now - request_.sent).count(), work);
    engines_->line_work_.add(work);
  }
  item.concurrency.answered(request_, sign, work, now);
}

void Slot::count(std::size_t lines, std::int64_t tokens) {
  auto& item = engines_->items_[number_];
  const Moment now = engines_->clock_.monotonic();
  item.lines += static_cast<std::int64_t>(lines);
  item.line_rate.add(static_cast<double>(lines), now);
  item.token_rate.add(static_cast<double>(tokens), now);
}

Task<bool> Slot::alone(std::string model) {
  auto& item = engines_->items_[number_];
  while (item.concurrency.under_way() > 1) co_await item.freed.wait();
  co_return engines_->serves(item, model);
}

void Engines::add(std::unique_ptr<Engine> engine, bool is_shared) {
  const Concurrency concurrency(engine->slots(), is_shared);
  items_.push_back({std::move(engine), concurrency, Event(loop_), Event(loop_), {}});
}

void Engines::look_again() {
  for (Item& item : items_) {
    const bool ready = item.engine->ready();
    // One that only made room for another is as strong as it was when it is back.
    if (item.was_ready && !ready && !item.engine->trouble().empty()) {
      item.concurrency.away();
      item.pace = {};
      item.denied = false;
    }
    if (ready && !item.was_ready) item.concurrency.know(item.engine->slots());
    item.was_ready = ready;
  }
  for (const EngineChanged& tell : on_change) tell();
}

void Engines::start() {
  for (Item& item : items_) {
    Engine* engine = item.engine.get();
    tasks_.keep(engine->name().c_str(), clock_, [engine] { return engine->run(); });
    tasks_.keep("load of an engine", clock_, [this, &item] { return watch(item); });
  }
}

Task<> Engines::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

bool Engines::serves(const Item& item, std::string_view model) const {
  return item.engine->ready() && tells(*item.engine, model);
}

bool Engines::takes_more(const Item& item, std::string_view model) const {
  return item.held_until <= clock_.monotonic() && !item.alone && serves(item, model);
}

Task<> Engines::watch(Item& item) {
  while (true) {
    while (item.concurrency.under_way() == 0 || !item.concurrency.wants_load()) co_await item.begun.wait();
    const Millis pause = item.concurrency.is_shared() ? kLookAgainShared : kLookAgain;
    co_await sleep_until(clock_, clock_.monotonic() + pause);
    const std::optional<Load> load = co_await item.engine->load();
    if (!load) continue;
    const int size = item.concurrency.size();
    item.concurrency.told(*load, items_.size() == 1, clock_.monotonic());
    if (item.concurrency.size() > size && on_slot_free) on_slot_free();
  }
}

void Engines::LineWork::add(double work) {
  if (mean == 0) {
    mean = work;
    deviation = work / 2;
  } else {
    deviation += (std::abs(work - mean) - deviation) * kWeight;
    mean += (work - mean) * kWeight;
  }
}

void Engines::Pace::add(double one_seconds, double one_work) {
  seconds += one_seconds - seconds * kWeight;
  work += one_work - work * kWeight;
}

bool Engines::is_too_slow(const Item& item, std::string_view model, std::size_t waiting) const {
  if (waiting == kMany) return false;
  const double seconds = item.pace.seconds_of(line_work_.at_most());
  double lines_per_second = 0, last_seconds = 0;  // of the faster ones, and of the last line there
  for (const Item& other : items_) {
    const double other_seconds = other.pace.seconds_of(line_work_.at_most());
    if (other_seconds == 0 || kFaster * other_seconds >= seconds || !takes_more(other, model)) continue;
    lines_per_second += other.concurrency.size() / other.pace.seconds_of(line_work_.mean);
    last_seconds = std::max(last_seconds, other_seconds);
  }
  return lines_per_second > 0 && static_cast<double>(waiting) / lines_per_second + last_seconds < seconds;
}

std::optional<std::size_t> Engines::best(std::string_view model, const Chooser& has_line, std::size_t waiting) const {
  std::optional<std::size_t> best;
  double best_load = 1.0;  // of what it is given at a time
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (!takes_more(item, model)) continue;
    const double load = static_cast<double>(item.concurrency.under_way()) / item.concurrency.size();
    if (load < best_load && (!has_line || has_line(i)) && !is_too_slow(item, model, waiting)) {
      best = i;
      best_load = load;
    }
  }
  return best;
}

std::optional<Slot> Engines::acquire(std::string_view model, const Chooser& has_line, std::size_t waiting) {
  const auto number = best(model, has_line, waiting);
  if (!number) return std::nullopt;
  return Slot(*this, *number, false);
}

std::optional<Slot> Engines::acquire_alone(std::string_view model) {
  std::optional<std::size_t> idlest;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (!takes_more(item, model)) continue;
    if (!idlest || item.concurrency.under_way() < items_[*idlest].concurrency.under_way()) idlest = i;
  }
  if (!idlest) return std::nullopt;
  return Slot(*this, *idlest, true);
}

std::optional<Moment> Engines::next_release() const {
  std::optional<Moment> next;
  for (const Item& item : items_) {
    if (item.engine->ready() && item.held_until > clock_.monotonic() && (!next || item.held_until < *next)) {
      next = item.held_until;
    }
  }
  return next;
}

std::vector<std::string> Engines::models() const {
  std::set<std::string> all;
  for (const Item& item : items_) {
    if (item.engine->ready()) all.insert(item.engine->models().begin(), item.engine->models().end());
  }
  return {all.begin(), all.end()};
}

std::map<std::size_t, int> Engines::serving(std::string_view model) const {
  std::map<std::size_t, int> slots;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (serves(items_[i], model)) slots[i] = items_[i].concurrency.size();
  }
  return slots;
}

bool Engines::is_gone(std::string_view model) const {
  if (std::any_of(others_.begin(), others_.end(), [&](auto& other) { return !is_gone_by(other, model); })) return false;
  return items_.empty() ? !others_.empty() : is_gone_by(report(), model);
}

bool Engines::is_hopeless(std::string_view model) const {
  const EngineReport own = report();
  return is_gone_by(own, model) && own.lost.contains(model);
}

EngineReport Engines::report() const {
  EngineReport report{.served = {}, .lost = {}, .all_told = true};
  for (const Item& item : items_) {
    const auto& models = item.engine->models();
    report.one_ready |= item.engine->ready();
    if (!item.engine->hopeless()) {
      report.all_told &= item.engine->ready() || !models.empty();
      report.served.insert(models.begin(), models.end());
    } else {
      for (const std::string& model : models) report.lost.emplace(model, item.engine->trouble());
    }
  }
  return report;
}

std::vector<EngineNow> Engines::now() const {
  const Moment now = clock_.monotonic();
  std::vector<EngineNow> all;
  for (const Item& item : items_) {
    const EngineState state = state_of(*item.engine);
    all.push_back({.name = item.engine->name(),
                   .state = state,
                   .slots = state == EngineState::ready ? item.concurrency.size() : 0,
                   .slots_busy = item.concurrency.under_way(),
                   .is_managed = item.engine->is_managed(),
                   .is_shared = item.concurrency.is_shared(),
                   .models = item.engine->models(),
                   .trouble = state != EngineState::ready ? std::string_view(item.engine->trouble())
                              : item.denied               ? kDenied
                                                          : std::string_view(),
                   .lines = item.lines,
                   .lines_per_second = item.line_rate.at(now),
                   .tokens_per_second = item.token_rate.at(now)});
  }
  return all;
}

void Engines::set_others(std::vector<EngineReport> others) {
  if (others == others_) return;
  others_ = std::move(others);
  for (const EngineChanged& tell : on_change) tell();
}

Engines::Models Engines::told_models() const {
  Models all;
  for (const Item& item : items_) all.insert(item.engine->models().begin(), item.engine->models().end());
  for (const EngineReport& other : others_) {
    all.insert(other.served.begin(), other.served.end());
    for (const auto& [model, trouble] : other.lost) all.insert(model);
  }
  return all;
}

std::optional<Engines::Models> Engines::known_models() const {
  const bool all_have_told =
      std::none_of(items_.begin(), items_.end(), [](const Item& item) { return item.engine->models().empty(); }) &&
      std::all_of(others_.begin(), others_.end(), [](const EngineReport& other) { return other.all_told; });
  if ((items_.empty() && others_.empty()) || !all_have_told) return std::nullopt;
  return told_models();
}

void Engines::spare_disk() {
  for (const Item& item : items_) item.engine->spare_disk();
}

int Engines::in_flight() const {
  int total = 0;
  for (const Item& item : items_) total += item.concurrency.under_way();
  return total;
}

std::vector<std::string> Engines::troubles() const {
  std::vector<std::string> all;
  for (const Item& item : items_) {
    if (item.engine->ready() ? !item.denied : item.engine->trouble().empty()) continue;
    all.push_back(fmt::format("engine {}: {}", item.engine->name(),
                              item.denied ? kDenied : std::string_view(item.engine->trouble())));
  }
  return all;
}

std::string Engines::trouble(std::string_view model) const {
  for (const Item& item : items_) {
    if (tells(*item.engine, model) && !item.engine->ready() && !item.engine->trouble().empty()) {
      return fmt::format("engine {}: {}", item.engine->name(), item.engine->trouble());
    }
  }
  for (const EngineReport& other : others_) {
    if (const auto found = other.lost.find(model); found != other.lost.end()) return found->second;
  }
  return "";
}

}  // namespace penstock
