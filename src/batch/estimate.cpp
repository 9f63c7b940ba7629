#include "batch/estimate.h"

#include <algorithm>
#include <cmath>

namespace penstock {
namespace {

constexpr double kMemorySeconds = 60;
constexpr double kGuess = 1;  // lines a second

}  // namespace

void Estimator::add(const std::string& model, std::int64_t lines, Millis busy) {
  const double seconds = std::chrono::duration<double>(busy).count();
  Recent& recent = recent_[model];
  const double kept = std::exp(-seconds / kMemorySeconds);
  recent.lines = recent.lines * kept + static_cast<double>(lines);
  recent.seconds = recent.seconds * kept + seconds;
}

double Estimator::lines_per_second(const std::string& model) const {
  const auto it = recent_.find(model);
  if (it == recent_.end() || it->second.lines <= 0) return kGuess;
  return it->second.lines / std::max(it->second.seconds, 0.001);
}

std::map<BatchId, QueuePlace> estimate(const std::vector<Batch>& queue, const Estimator& estimator, Timestamp now) {
  std::map<BatchId, QueuePlace> places;
  std::map<std::string, Timestamp> free_at;  // by model
  std::int64_t position = 0;
  for (const Batch& batch : queue) {
    if (batch.status == BatchStatus::cancelling || batch.paused_at) continue;
    const std::string model = batch.model.value_or("");
    Timestamp& free = free_at.try_emplace(model, now).first->second;
    QueuePlace place;
    const bool begun = batch.status != BatchStatus::validating && !is_waiting(batch);
    if (!begun) place.position = ++position;
    place.start = begun ? batch.in_progress_at.value_or(now) : free;
    const auto left = static_cast<double>(batch.counts.total - batch.counts.completed - batch.counts.failed);
    free += Millis(static_cast<std::int64_t>(1000 * left / estimator.lines_per_second(model)));
    place.completion = std::max(free, place.start);
    places.emplace(batch.id, place);
  }
  return places;
}

}  // namespace penstock
