#pragma once
#include <list>
#include <map>
#include <optional>

#include "api/handlers.h"
#include "api/history.h"
#include "batch/comparison.h"

namespace penstock {

// What people watch while it changes: the processes, their engines, figures over time, and for followers what they
// follow. Loop thread only; `services` outlives it.
class Monitor {
 public:
  Monitor(asio::io_context& loop, Services& services) : loop_(loop), services_(services) {}

  // Notes the figures of each step, until cancelled.
  Task<> run();
  const History& history() const { return history_; }

  // What a handler answers to such a query, as it was within the last second: followers of the same thing have it made
  // once. Empty when that is an error. The caller is one who may.
  using Handler = Task<Response> (*)(Context&);
  Task<std::string> snapshot(Handler handler, std::string query, Principal caller);

  // The two batches that were compared last, if it was these.
  using BatchPair = std::pair<BatchId, BatchId>;
  std::shared_ptr<const Comparison> compared(const BatchPair& pair) const {
    return pair == compared_pair_ ? compared_ : nullptr;
  }
  void set_compared(BatchPair pair, std::shared_ptr<const Comparison> comparison) {
    compared_pair_ = std::move(pair);
    compared_ = std::move(comparison);
  }

  // Why this server is not ready, in words; asked anew once a second. Nothing is wrong when there is nothing.
  Task<std::vector<std::string>> troubles();

 private:
  struct Snapshot {
    std::optional<Moment> made_at;
    bool is_being_made = false;
    std::string json;
    std::list<Event> waiting;  // one for each who waits until it is made
  };
  Task<> look();
  Task<> until_made(Snapshot& snapshot);

  asio::io_context& loop_;
  Services& services_;
  History history_;
  std::map<std::pair<Handler, ProjectId>, std::shared_ptr<Snapshot>> snapshots_;
  BatchPair compared_pair_;
  std::shared_ptr<const Comparison> compared_;
  std::vector<std::string> troubles_;
  std::optional<Moment> asked_at_;
};

// A list of figures, as GET /v1/stats has them. Blocks for a while where they are many.
std::string to_json(const std::vector<Figures>& points, std::chrono::seconds step);

}  // namespace penstock
