#pragma once
#include "store/store.h"

namespace penstock {

// Which lines a result group holds, without the lines.
struct SavedGroup {
  std::int64_t seq = 0, span = 0;
  std::vector<ResultEntry> entries;
};

// The result groups of batches that run, for whoever looks for single lines: statements of a store, for use as Store's
// own are. Of a retry before it starts there are none.
class SavedGroups {
 public:
  explicit SavedGroups(Store& store) : sql_(store.connection()) {}

  std::vector<SavedGroup> of_span(const SpanKey& span);
  // Up to `limit` of those that were saved after that one, in their order.
  std::vector<SavedGroup> behind(const BatchId& id, std::int64_t seq, std::int64_t limit);
  // The lines of a group; empty when it has been removed.
  std::string lines(std::int64_t seq);

 private:
  sql::Connection& sql_;
};

}  // namespace penstock
