#include "engine/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/log.h"

namespace penstock {
namespace {

// Whether the engine said, when it was last up, that it serves the model.
bool tells(const Engine& engine, std::string_view model) {
  const auto& models = engine.models();
  return std::find(models.begin(), models.end(), model) != models.end();
}

}  // namespace

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
    // One that only made room for another is as strong as it was when it is back.
    if (item.was_ready && !item.engine->ready() && !item.engine->trouble().empty()) {
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
  return item.engine->ready() && tells(*item.engine, model);
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
  bool one_has_told = false;
  for (const Item& item : items_) {
    const bool has_it = tells(*item.engine, model);
    const bool has_told = item.engine->ready() || !item.engine->models().empty();
    const bool hopeless = item.engine->hopeless();
    if (!hopeless && (!has_told || has_it)) return false;
    one_has_told |= item.engine->ready() || (hopeless && has_it);
  }
  return one_has_told;
}

bool Engines::is_hopeless(std::string_view model) const {
  return is_gone(model) && std::any_of(items_.begin(), items_.end(), [&](const Item& item) {
           return item.engine->hopeless() && tells(*item.engine, model);
         });
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
    if (item.engine->ready() ? !item.denied : item.engine->trouble().empty()) continue;
    all.push_back(
        fmt::format("engine {}: {}", item.engine->name(), item.denied ? "it refuses our key" : item.engine->trouble()));
  }
  return all;
}

std::string Engines::trouble(std::string_view model) const {
  for (const Item& item : items_) {
    if (tells(*item.engine, model) && !item.engine->ready() && !item.engine->trouble().empty()) {
      return fmt::format("engine {}: {}", item.engine->name(), item.engine->trouble());
    }
  }
  return "";
}

}  // namespace penstock
