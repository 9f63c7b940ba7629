#pragma once
#include <deque>

#include "model/line_parser.h"
#include "model/output_line.h"

namespace penstock {

// The last answers of one batch, for lines that ask the same again. Loop thread only.
class KnownAnswers {
 public:
  struct Limits {
    std::size_t count = 256;
    std::size_t bytes = 4 << 20;
  };
  explicit KnownAnswers(Limits limits) : limits_(limits) {}
  KnownAnswers() : KnownAnswers(Limits{}) {}

  // Forgets the oldest ones past the limits.
  void add(const Hash128& key, LineOutcome answer);
  const LineOutcome* find(const Hash128& key) const;

 private:
  Limits limits_;
  std::deque<std::pair<Hash128, LineOutcome>> answers_;  // the newest first
  std::size_t bytes_ = 0;
};

}  // namespace penstock
