#pragma once
#include <memory>
#include <set>

#include "engine/engine.h"

namespace penstock {

class Engines;

// The right to have one request under way at an engine. Giving it up frees the slot.
class Slot {
 public:
  Slot(Engines& engines, std::size_t number) : engines_(&engines), number_(number) {}
  Slot(Slot&& other) noexcept : engines_(std::exchange(other.engines_, nullptr)), number_(other.number_) {}
  Slot& operator=(Slot&&) = delete;
  ~Slot();
  Engine& engine() const;
  // The engine takes no further line until then: it has asked for that, or its answers do.
  void hold(Moment until);

 private:
  Engines* engines_;
  std::size_t number_;
};

// All engines of this worker, and who has room. Loop thread only.
class Engines {
 public:
  Engines(asio::io_context& loop, Clock& clock) : clock_(clock), tasks_(loop) {}

  // Before start().
  void add(std::unique_ptr<Engine> engine) { items_.push_back({std::move(engine)}); }
  void start();
  Task<> stop();

  // Called, on the loop thread: when an engine came, went or changed its models; when a slot was given back. Set both
  // before start().
  EngineChanged on_change, on_slot_free;
  // What engines call.
  EngineChanged changed() {
    return [this] {
      if (on_change) on_change();
    };
  }

  // A slot at the ready engine with the most room for this model; nothing when none has any.
  std::optional<Slot> acquire(std::string_view model);
  // Whether acquire() would give one.
  bool has_room(std::string_view model) const { return best(model).has_value(); }
  // The earliest end of a hold that keeps a ready engine from working.
  std::optional<Moment> next_release() const;

  // Models that some ready engine serves, sorted.
  std::vector<std::string> models() const;
  // Slots of the ready engines that serve it.
  int slots(std::string_view model) const;
  // All models, once every engine has told its own.
  std::optional<std::set<std::string, std::less<>>> known_models() const;

  bool empty() const { return items_.empty(); }
  int in_flight() const;
  // What is wrong with the engines that are not ready; empty when all are.
  std::string trouble() const;
  // Every engine is beyond hope.
  bool hopeless() const;

 private:
  friend class Slot;
  struct Item {
    std::unique_ptr<Engine> engine;
    int in_flight = 0;
    Moment held_until{};
  };
  std::optional<std::size_t> best(std::string_view model) const;
  bool serves(const Item& item, std::string_view model) const;

  Clock& clock_;
  std::vector<Item> items_;
  TaskGroup tasks_;
};

}  // namespace penstock
