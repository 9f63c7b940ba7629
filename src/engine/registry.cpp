#include "engine/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/log.h"

namespace penstock {

Slot::Slot(Engines& engines, std::size_t number, bool alone) : engines_(&engines), number_(number), alone_(alone) {
  auto& item = engines.items_[number];
  round_ = item.window.round();
  ++item.in_flight;
  item.alone = alone;
}

Slot::~Slot() {
  if (!engines_) return;
  auto& item = engines_->items_[number_];
  --item.in_flight;
  if (item.alone) item.freed.notify();
  if (alone_) item.alone = false;
  if (engines_->on_slot_free) engines_->on_slot_free();
}

Engine& Slot::engine() const {
  return *engines_->items_[number_].engine;
}

void Slot::report(Sign sign, Millis hold) {
  auto& item = engines_->items_[number_];
  if (hold > Millis{0}) item.held_until = std::max(item.held_until, engines_->clock_.monotonic() + hold);
  const bool is_news = round_ == item.window.round();
  switch (sign) {
    case Sign::none:
      break;
    case Sign::good:
      if (is_news) item.denied = false;
      item.window.grow(round_);
      break;
    case Sign::overloaded:
      item.window.halve(round_);
      break;
    case Sign::denied:
      if (is_news && !std::exchange(item.denied, true)) log::warn("engine {} refuses our key", item.engine->name());
      item.window.restart(round_);
      break;
  }
}

Task<bool> Slot::alone(std::string model) {
  auto& item = engines_->items_[number_];
  while (item.in_flight > 1) co_await item.freed.wait();
  co_return engines_->serves(item, model);
}

void Engines::add(std::unique_ptr<Engine> engine) {
  const int slots = engine->slots();
  items_.push_back({std::move(engine), Window(slots), Event(loop_)});
}

void Engines::look_again() {
  for (Item& item : items_) {
    if (item.was_ready && !item.engine->ready()) {
      item.window.restart(item.window.round());
      item.denied = false;
    }
    item.was_ready = item.engine->ready();
  }
  for (const EngineChanged& tell : on_change) tell();
}

void Engines::start() {
  for (Item& item : items_) {
    Engine* engine = item.engine.get();
    tasks_.keep(engine->name().c_str(), clock_, [engine] { return engine->run(); });
  }
}

Task<> Engines::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

bool Engines::serves(const Item& item, std::string_view model) const {
  const auto& models = item.engine->models();
  return item.engine->ready() && std::find(models.begin(), models.end(), model) != models.end();
}

bool Engines::takes_more(const Item& item, std::string_view model) const {
  return item.held_until <= clock_.monotonic() && !item.alone && serves(item, model);
}

std::optional<std::size_t> Engines::best(std::string_view model, const Chooser& has_line) const {
  std::optional<std::size_t> best;
  double best_load = 1.0;  // of what it is given at a time
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (!takes_more(item, model)) continue;
    const double load = static_cast<double>(item.in_flight) / item.window.size();
    if (load < best_load && (!has_line || has_line(i))) {
      best = i;
      best_load = load;
    }
  }
  return best;
}

std::optional<Slot> Engines::acquire(std::string_view model, const Chooser& has_line) {
  const auto number = best(model, has_line);
  if (!number) return std::nullopt;
  return Slot(*this, *number, false);
}

std::optional<Slot> Engines::acquire_alone(std::string_view model) {
  std::optional<std::size_t> idlest;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (!takes_more(item, model)) continue;
    if (!idlest || item.in_flight < items_[*idlest].in_flight) idlest = i;
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
    if (serves(items_[i], model)) slots[i] = items_[i].engine->slots();
  }
  return slots;
}

bool Engines::is_gone(std::string_view model) const {
  bool one_is_up = false;
  for (const Item& item : items_) {
    const auto& models = item.engine->models();
    const bool has_told = item.engine->ready() || !models.empty();
    if (!has_told || std::find(models.begin(), models.end(), model) != models.end()) return false;
    one_is_up |= item.engine->ready();
  }
  return one_is_up;
}

Engines::Models Engines::told_models() const {
  Models all;
  for (const Item& item : items_) all.insert(item.engine->models().begin(), item.engine->models().end());
  return all;
}

std::optional<Engines::Models> Engines::known_models() const {
  const bool all_have_told =
      std::none_of(items_.begin(), items_.end(), [](const Item& item) { return item.engine->models().empty(); });
  if (items_.empty() || !all_have_told) return std::nullopt;
  return told_models();
}

int Engines::in_flight() const {
  int total = 0;
  for (const Item& item : items_) total += item.in_flight;
  return total;
}

std::vector<std::string> Engines::troubles() const {
  std::vector<std::string> all;
  for (const Item& item : items_) {
    if (item.engine->ready() && !item.denied) continue;
    all.push_back(
        fmt::format("engine {}: {}", item.engine->name(), item.denied ? "it refuses our key" : item.engine->trouble()));
  }
  return all;
}

bool Engines::hopeless() const {
  return !items_.empty() &&
         std::all_of(items_.begin(), items_.end(), [](const Item& i) { return i.engine->hopeless(); });
}

}  // namespace penstock
