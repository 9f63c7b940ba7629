#include "engine/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace penstock {

Slot::~Slot() {
  if (!engines_) return;
  --engines_->items_[number_].in_flight;
  if (engines_->on_slot_free) engines_->on_slot_free();
}

Engine& Slot::engine() const {
  return *engines_->items_[number_].engine;
}

void Slot::hold(Moment until) {
  Moment& held = engines_->items_[number_].held_until;
  held = std::max(held, until);
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

std::optional<Slot> Engines::acquire(std::string_view model) {
  const Moment now = clock_.monotonic();
  std::optional<std::size_t> best;
  double best_load = 1.0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (item.held_until > now || !serves(item, model)) continue;
    const double load = static_cast<double>(item.in_flight) / item.engine->slots();
    if (load < best_load) {
      best = i;
      best_load = load;
    }
  }
  if (!best) return std::nullopt;
  ++items_[*best].in_flight;
  return std::make_optional<Slot>(*this, *best);
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

int Engines::slots(std::string_view model) const {
  int total = 0;
  for (const Item& item : items_) total += serves(item, model) ? item.engine->slots() : 0;
  return total;
}

std::optional<std::set<std::string, std::less<>>> Engines::known_models() const {
  if (items_.empty()) return std::nullopt;
  std::set<std::string, std::less<>> all;
  for (const Item& item : items_) {
    if (item.engine->models().empty()) return std::nullopt;
    all.insert(item.engine->models().begin(), item.engine->models().end());
  }
  return all;
}

int Engines::in_flight() const {
  int total = 0;
  for (const Item& item : items_) total += item.in_flight;
  return total;
}

std::string Engines::trouble() const {
  std::string all;
  for (const Item& item : items_) {
    if (item.engine->ready()) continue;
    all += fmt::format("{}engine {}: {}", all.empty() ? "" : "; ", item.engine->name(), item.engine->trouble());
  }
  return all;
}

bool Engines::hopeless() const {
  return !items_.empty() &&
         std::all_of(items_.begin(), items_.end(), [](const Item& i) { return i.engine->hopeless(); });
}

}  // namespace penstock
