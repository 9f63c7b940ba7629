#pragma once
#include "store/store.h"

namespace penstock {

// What monitoring asks of the queue: sums over the batches of one priority and state that have not ended.
struct QueueFigures {
  enum class State { waiting, running, paused } state{};
  int priority = 0;
  std::int64_t batches = 0, lines = 0;  // lines: still to do
  Timestamp oldest{}, next_expiry{};    // the first creation, and the first expiry

  bool operator==(const QueueFigures&) const = default;
};
std::string_view to_string(QueueFigures::State state);

// Only those of which there are batches.
std::vector<QueueFigures> queue_figures(Store& store);

// How many deliveries wait for their next attempt or have it under way.
std::int64_t pending_deliveries(Store& store);

}  // namespace penstock
