#pragma once
#include <deque>
#include <map>

#include "batch/process_report.h"

namespace penstock {

// What all processes together did in a step of time, and how things stood at its end.
struct Figures {
  Timestamp at{};                      // its end
  std::int64_t lines = 0, failed = 0;  // saved; failed is part of lines
  Usage usage;                         // of these
  std::int64_t queued_lines = 0, queued_batches = 0, slots = 0, slots_busy = 0;
};

// Figures over time, in memory: the last hour in fine steps, and a week in coarse ones. Pure.
class History {
 public:
  static constexpr std::chrono::seconds kFine{5}, kCoarse{60};
  static constexpr std::size_t kFineKept = 720, kCoarseKept = 7 * 24 * 60;

  // Once a fine step: all processes that live, and the queue. What a process did before it was first seen here does not
  // count, unless it is one that began since the last step.
  void add(const std::vector<ProcessReport>& processes, std::int64_t queued_lines, std::int64_t queued_batches,
           Timestamp now);

  // The oldest first.
  const std::deque<Figures>& fine() const { return fine_; }
  const std::deque<Figures>& coarse() const { return coarse_; }

 private:
  struct Seen {
    std::int64_t lines = 0, failed = 0;
    Usage usage;
  };
  std::map<std::string, Seen> seen_;  // by process: since their starts
  bool has_begun_ = false;
  std::deque<Figures> fine_, coarse_;
};

}  // namespace penstock
