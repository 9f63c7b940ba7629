#pragma once
#include <map>
#include <string>

#include "batch/lifecycle.h"
#include "batch/process_report.h"

namespace penstock {

// Workers are offline when the last beat of any is older than this.
constexpr Millis kOfflineAfter{60'000};

// One process among those that share a database. Each has a row there and gives beats; whoever has seen no change of
// another's for kLease, by his own clock and at kLooks looks one after the other, buries it: what it held is free then.
// So nobody's clock is compared with another's, and a time in which the database was away counts as one look. A process
// that comes back from its grave learns that from its next beat, and begins anew.
//
// Beats stand in line behind nothing that the process does: one that is busy, loads a model or drains gives them too.
// Loop thread only; the referenced parts must outlive it.
class Fleet {
 public:
  static constexpr Millis kBeat{1'000}, kLease{5'000};
  static constexpr int kLooks = 5;
  static constexpr Millis kBeatAlone{10'000};  // of a process that has the database to itself: only to be seen

  struct Options {
    std::string process;
    bool shares = false;  // the database with other processes
  };

  // What it has seen since its start, and sees.
  struct Totals {
    std::int64_t lease_losses = 0;  // times that others had taken this process for dead
    std::int64_t buried = 0;        // processes that it took for dead
    std::int64_t workers = 0;       // that live, this one included
  };

  // `dispatcher` may be null in a process without a worker.
  Fleet(asio::io_context& loop, Clock& clock, Db& db, Engines& engines, Estimator& estimator, Lifecycle& lifecycle,
        Dispatcher* dispatcher, Options options);

  // Returns when this process has its row. Before the dispatcher and the lifecycle start.
  Task<> start();
  // What other processes said: that batch has changed, or, when it is empty, anything may have.
  void heard(const std::string& batch);
  const Totals& totals() const { return totals_; }
  // This process as it is now, and others as they were when they gave their last beats.
  ProcessReport own() const;
  Task<std::vector<ProcessReport>> processes();
  void set_disk_low(bool low) { disk_low_ = low; }
  // It ends soon, and takes over nothing any more.
  void retire() { retired_ = true; }
  // What this process holds is free for others.
  Task<> stop();

 private:
  struct Seen {
    std::int64_t beats = 0;
    Moment since{};  // for so long we have seen no other number
    int looks = 0;   // at which it was the same
  };
  Task<> run();
  Task<> beat();
  void look_at(std::vector<Peer> peers);
  Task<> inherit();

  Clock& clock_;
  Db& db_;
  Engines& engines_;
  Estimator& estimator_;
  Lifecycle& lifecycle_;
  Dispatcher* dispatcher_;
  const Options options_;
  std::map<std::string, Seen> seen_;  // other processes
  std::vector<Peer> dead_;
  Totals totals_;
  Timestamp started_at_{};
  bool retired_ = false, disk_low_ = false;
  Event sooner_, looked_;
  TaskGroup tasks_;
};

}  // namespace penstock
