#pragma once
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "engine/concurrency.h"
#include "engine/rate.h"

namespace penstock {

class Engines;

// What a worker has to say of its engines.
struct EngineReport {
  using Models = std::set<std::string, std::less<>>;
  Models served;                                         // that engines have told of, those that load or are away too
  std::map<std::string, std::string, std::less<>> lost;  // of engines that will not start: why
  bool all_told = false;                                 // every engine has told
  bool one_ready = false;

  bool operator==(const EngineReport&) const = default;
};

// An engine of this worker as it is now.
struct EngineNow {
  const std::string& name;
  EngineState state{};
  int slots = 0, slots_busy = 0;  // slots: requests that it is given at a time, 0 while it is not ready
  bool is_managed = false, is_shared = false;
  const std::vector<std::string>& models;
  std::string_view trouble;                            // what is wrong, in words; empty when nothing is
  std::int64_t lines = 0;                              // answered since the start
  double lines_per_second = 0, tokens_per_second = 0;  // tokens: of answers
};

// The right to have one request under way at an engine. Giving it up frees the slot.
class Slot {
 public:
  Slot(Slot&& other) noexcept
      : engines_(std::exchange(other.engines_, nullptr)),
        number_(other.number_),
        request_(other.request_),
        alone_(other.alone_) {}
  Slot& operator=(Slot&&) = delete;
  ~Slot();
  Engine& engine() const;
  // Of its engine, as Engines::serving() counts them.
  std::size_t number() const { return number_; }
  // What came of the request, and what work it was; see Concurrency::answered(). The engine takes no further one for as
  // long as `hold`.
  void report(Sign sign, Millis hold, double work = 0);
  // So many lines have their outcome by the request, with so many tokens of answers.
  void count(std::size_t lines, std::int64_t tokens);
  // Of a slot from acquire_alone(): returns when the engine has nothing else under way. False when it no longer serves
  // the model.
  Task<bool> alone(std::string model);

 private:
  friend class Engines;
  Slot(Engines& engines, std::size_t number, bool alone);

  Engines* engines_;
  std::size_t number_;
  Concurrency::Request request_;
  bool alone_;
};

// All engines of this worker, and who has room; and what other workers say of theirs. Loop thread only.
class Engines {
 public:
  static constexpr std::size_t kMany = std::numeric_limits<std::size_t>::max();

  Engines(asio::io_context& loop, Clock& clock) : loop_(loop), clock_(clock), tasks_(loop) {}

  // Before start(). `is_shared`: people use it too, and are left room.
  void add(std::unique_ptr<Engine> engine, bool is_shared = false);
  void start();
  Task<> stop();

  // Called, on the loop thread, when an engine came, went or changed its models; when a slot was given back. Add to
  // the first and set the second before start().
  std::vector<EngineChanged> on_change;
  EngineChanged on_slot_free;
  // What engines call.
  EngineChanged changed() {
    return [this] { look_again(); };
  }

  // A slot at the ready engine with the most room for this model, of those that the caller has a line for; nothing when
  // none has any. `waiting`: how many lines of the model are still to be sent, this one included. An engine that would
  // answer this line later than faster ones all of these has no room.
  using Chooser = std::function<bool(std::size_t engine)>;
  std::optional<Slot> acquire(std::string_view model, const Chooser& has_line = nullptr, std::size_t waiting = kMany);
  // A slot at an engine that gives no other as long as it is there; see Slot::alone().
  std::optional<Slot> acquire_alone(std::string_view model);
  // Whether acquire() would give one.
  bool has_room(std::string_view model) const { return best(model, nullptr, kMany).has_value(); }
  // The earliest end of a hold that keeps a ready engine from working.
  std::optional<Moment> next_release() const;

  // Models that some ready engine serves, sorted.
  std::vector<std::string> models() const;
  // The ready engines that serve it, by number, and how many requests at a time each is given.
  std::map<std::size_t, int> serving(std::string_view model) const;
  // No engine, of other workers neither, is to be expected to serve it: each is hopeless or has said that it serves
  // others.
  bool is_gone(std::string_view model) const;
  // No engine of ours is, and one would be if it could be started.
  bool is_hopeless(std::string_view model) const;
  using Models = EngineReport::Models;
  // Models that engines have told of, those that load or are away and those of other workers included.
  Models told_models() const;
  // The same, once every engine has.
  std::optional<Models> known_models() const;

  EngineReport report() const;
  // In the order in which they were added; valid as long as they are there.
  std::vector<EngineNow> now() const;
  // What other workers report by now.
  void set_others(std::vector<EngineReport> others);

  void spare_disk();

  bool empty() const { return items_.empty(); }
  int in_flight() const;
  // What is wrong with those that are not ready or refuse our key, each in words.
  std::vector<std::string> troubles() const;
  // What is wrong with the engines that should serve this model; empty when nothing is.
  std::string trouble(std::string_view model) const;

 private:
  friend class Slot;
  // The work of a line: the mean, and how far lines are from it, as TCP keeps them of its round trips (RFC 6298).
  struct LineWork {
    double mean = 0, deviation = 0;
    void add(double work);
    double at_most() const { return mean + 4 * deviation; }  // of nearly all
  };
  // What an engine took for its last lines, and their work. A line's own time would mislead: the first ones that are
  // answered are the short ones.
  struct Pace {
    double seconds = 0, work = 0;
    void add(double one_seconds, double one_work);
    double seconds_of(double of_work) const { return work > 0 ? seconds / work * of_work : 0; }
  };
  struct Item {
    std::unique_ptr<Engine> engine;
    Concurrency concurrency;
    Event freed;  // one of its slots
    Event begun;  // a request
    Pace pace;
    Moment held_until{};
    bool was_ready = false, denied = false;
    bool alone = false;  // a slot is all that it gives
    std::int64_t lines = 0;
    Rate line_rate = {}, token_rate = {};
  };
  void look_again();
  // Follows what the engine tells of its load while it has work of ours.
  Task<> watch(Item& item);
  std::optional<std::size_t> best(std::string_view model, const Chooser& has_line, std::size_t waiting) const;
  bool is_too_slow(const Item& item, std::string_view model, std::size_t waiting) const;
  bool serves(const Item& item, std::string_view model) const;
  // Whether nothing but its size keeps the engine from having one more.
  bool takes_more(const Item& item, std::string_view model) const;

  asio::io_context& loop_;
  Clock& clock_;
  std::vector<Item> items_;
  std::vector<EngineReport> others_;
  LineWork line_work_;
  TaskGroup tasks_;
};

}  // namespace penstock
