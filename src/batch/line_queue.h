#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "base/clock.h"
#include "blob/blob_store.h"
#include "model/embedding_group.h"
#include "model/line_parser.h"
#include "model/types.h"

namespace penstock {

// What the lines of a span are read from.
struct InputFiles {
  std::unique_ptr<BlobReader> plan, input;
};

// A claimed span on its way: shared by its stretches, its lines and their results. The last one lets it go.
struct HeldSpan {
  ClaimedSpan claim;
  std::vector<std::uint32_t> finished;      // sorted; indices that result groups held at the claim
  std::int64_t unsaved = 0;                 // lines without a saved result
  bool lost = false;                        // another claim has it now, or may have
  std::shared_ptr<const InputFiles> files;  // LineLoader's
};

// Entries of a span that have not all been read yet.
struct Stretch {
  std::shared_ptr<HeldSpan> span;
  std::uint32_t first = 0, count = 0;  // plan entries
  std::vector<PlanEntry> entries;      // LineLoader's: once the plan was read, those still to do
  std::size_t next = 0;
  bool opened = false;

  bool is_read() const { return opened && next == entries.size(); }
};

// A line that waits for a slot, or has one.
struct Line {
  std::shared_ptr<HeldSpan> span;
  std::uint32_t index = 0, bytes = 0;  // as in PlanEntry
  int attempts = 0, deaths = 0;        // see retry::Past
  std::size_t shared_ahead = 0;        // see Engine::send()
  Millis took{};                       // with engines, so far
  Timestamp first_sent{};              // of one that is traced
  std::string custom_id_json, body;
  std::int64_t output_max = 0;  // see output_tokens_max()
  std::optional<Hash128> answer_key =
      std::nullopt;           // of a batch with dedupe: the same for lines that one answer serves
  EmbeddingInput input = {};  // of one that may be sent together with others
};

// The lines of one model and one project that wait for a slot. Each engine has a lane of its own, filled with stretches
// of the plan, so that lines which share a prefix meet at one engine's cache. One that has nothing left takes half of
// the longest lane. Loop thread only.
class LineQueue {
 public:
  // By their numbers, how many requests at a time each engine is given. What is in the lanes of others is for any.
  // `sharers`: so many queues share the memory that there is for one.
  using Slots = std::map<std::size_t, int>;
  void set_engines(const Slots& slots, std::size_t sharers = 1);

  // From a claim, in the plan's order.
  void add(const std::vector<std::shared_ptr<HeldSpan>>& spans);
  // The next stretch to read, when some lane is running short; nothing when none is, or there is nothing to read.
  std::shared_ptr<Stretch> next_to_read();
  // All is running short and there is nothing to read: a claim is wanted.
  bool runs_dry() const;
  // What was read of the stretch that next_to_read() gave last.
  void loaded(const Stretch& stretch, std::vector<Line> lines);
  // For any engine, before all others.
  void push_front(Line line);

  // Nothing waits.
  bool empty() const { return waiting_ == 0; }
  // How many lines wait.
  std::size_t size() const { return waiting_; }
  // The same, with those of stretches that are not read to their end; some of these may have been.
  std::size_t left() const;
  // Whether take(engine) has one.
  bool has_line_for(std::size_t engine) const;
  // The line that take() gives next to any engine; nothing when each has its own.
  const Line* front() const { return for_any_.empty() ? nullptr : &for_any_.front(); }
  // The line that take() gives next to that one; nothing when it would have to take one from another engine.
  const Line* front(std::size_t engine) const;
  // The next line for that engine. `expect`, when nothing is to come behind what waits, tells how long a line will take
  // against others: one that alone takes as long as all that waits would over all slots goes first, for the last line
  // to end is the batch's end.
  Line take(std::size_t engine, const std::function<double(const Line&)>& expect = nullptr);

  // Takes out all of such spans.
  struct Parts {
    std::deque<Line> lines;
    std::deque<std::shared_ptr<Stretch>> stretches;
    void append(Parts&& more);
  };
  Parts remove(const std::function<bool(const HeldSpan&)>& gone);
  // Puts back what remove() took out, for any engine and before all others.
  void restore(Parts parts);

 private:
  struct Lane {
    int slots = 0;
    std::deque<Line> lines;
    std::size_t bytes = 0;
    std::shared_ptr<Stretch> stretch;  // what is read into it
  };
  bool is_short(const Lane& lane) const;
  void take_half_of_longest(Lane& thief);
  // The first one, unless another would outlast all that waits.
  std::deque<Line>::iterator next_in(Lane& lane, const std::function<double(const Line&)>& expect) const;

  std::deque<Line> for_any_;
  std::map<std::size_t, Lane> lanes_;
  std::deque<std::shared_ptr<Stretch>> unread_;
  std::size_t waiting_ = 0;
  std::size_t slots_ = 0;
  std::size_t sharers_ = 1;
};

}  // namespace penstock
