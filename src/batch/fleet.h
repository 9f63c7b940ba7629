#pragma once
#include <map>
#include <string>

#include "batch/lifecycle.h"

namespace penstock {

// Workers are offline when the last beat of any is older than this.
constexpr Millis kOfflineAfter{60'000};

// One process among those that share a database. Each has a row there and gives beats; whoever has seen no change of
// another's for kLease, by his own clock and while he looked all the time, buries it: what it held is free then. So
// nobody's clock is compared with another's, and a database that was away for a while costs nobody what he holds. A
// process that comes back from its grave learns that from its next beat, and begins anew.
//
// Beats depend on nothing that the process does: one that is busy, loads a model or drains gives them too. Loop thread
// only; the referenced parts must outlive it.
class Fleet {
 public:
  static constexpr Millis kBeat{1'000}, kLease{5'000};
  static constexpr Millis kBeatAlone{10'000};  // of a process that has the database to itself: only to be seen

  struct Options {
    std::string process;
    bool is_worker = true;
    bool shares = false;  // the database with other processes
  };

  // `dispatcher` may be null in a process without a worker.
  Fleet(asio::io_context& loop, Clock& clock, Db& db, Engines& engines, Estimator& estimator, Lifecycle& lifecycle,
        Dispatcher* dispatcher, Options options);

  // Returns when this process has its row. Before the dispatcher and the lifecycle start.
  Task<> start();
  // What other processes said: that batch has changed, or, when it is empty, anything may have.
  void heard(const std::string& batch);
  // What this process holds is free for others.
  Task<> stop();

 private:
  struct Seen {
    std::int64_t beats = 0;
    Moment since{};  // for so long we have seen no other number
  };
  Task<> run();
  Task<> beat();
  Task<> look_at(std::vector<Peer> peers);

  Clock& clock_;
  Db& db_;
  Engines& engines_;
  Estimator& estimator_;
  Lifecycle& lifecycle_;
  Dispatcher* dispatcher_;
  const Options options_;
  std::map<std::string, Seen> seen_;  // other processes
  Moment last_look_{};
  Event sooner_;
  TaskGroup tasks_;
};

}  // namespace penstock
