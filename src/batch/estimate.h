#pragma once
#include <map>

#include "model/types.h"

namespace penstock {

// Learns how fast each model's lines are answered. Loop thread only.
class Estimator {
 public:
  // `lines` of that model were answered in `busy`, a time in which it had lines under way.
  void add(const std::string& model, std::int64_t lines, Millis busy);

  // Lines a second; a guess for a model that has answered none yet.
  double lines_per_second(const std::string& model) const;

 private:
  // Sums over the last minute or so of work: what is older counts less and less.
  struct Recent {
    double lines = 0, seconds = 0;
  };
  std::map<std::string, Recent> recent_;
};

// `queue` as Store::queue() gives it: each batch begins when those of its model before it are through.
std::map<BatchId, QueuePlace> estimate(const std::vector<Batch>& queue, const Estimator& estimator, Timestamp now);

}  // namespace penstock
