#include "api/history.h"

namespace penstock {
namespace {

void keep(std::deque<Figures>& all, const Figures& one, std::size_t most) {
  all.push_back(one);
  if (all.size() > most) all.pop_front();
}

std::int64_t minute_of(Timestamp at) {
  return (at.time_since_epoch() - Millis{1}) / History::kCoarse;  // a step belongs to the minute that it ends in
}

}  // namespace

void History::add(const std::vector<ProcessReport>& processes, std::int64_t queued_lines, std::int64_t queued_batches,
                  Timestamp now) {
  Figures step{.at = now, .queued_lines = queued_lines, .queued_batches = queued_batches};
  std::map<std::string, Seen> seen;
  for (const ProcessReport& process : processes) {
    const Seen& total = seen[process.id] = {process.lines, process.failed, process.usage};
    const auto before = seen_.find(process.id);
    const bool counts = before != seen_.end() || has_begun_;
    const Seen since = before == seen_.end() ? Seen() : before->second;
    if (counts) {
      step.lines += total.lines - since.lines;
      step.failed += total.failed - since.failed;
      step.usage.input += total.usage.input - since.usage.input;
      step.usage.cached += total.usage.cached - since.usage.cached;
      step.usage.output += total.usage.output - since.usage.output;
    }
    for (const ProcessReport::Engine& engine : process.engines) {
      step.slots += engine.slots;
      step.slots_busy += engine.slots_busy;
    }
  }
  seen_ = std::move(seen);
  has_begun_ = true;
  keep(fine_, step, kFineKept);
  if (coarse_.empty() || minute_of(coarse_.back().at) != minute_of(now)) return keep(coarse_, step, kCoarseKept);
  Figures& minute = coarse_.back();
  step.lines += minute.lines;
  step.failed += minute.failed;
  step.usage += minute.usage;
  minute = step;
}

}  // namespace penstock
