#include "batch/known_answers.h"

#include <algorithm>

namespace penstock {

void KnownAnswers::add(const Hash128& key, LineOutcome answer) {
  bytes_ += answer.body.size();
  answers_.emplace_front(key, std::move(answer));
  while (answers_.size() > limits_.count || bytes_ > limits_.bytes) {
    bytes_ -= answers_.back().second.body.size();
    answers_.pop_back();
  }
}

const LineOutcome* KnownAnswers::find(const Hash128& key) const {
  const auto found =
      std::find_if(answers_.begin(), answers_.end(), [&](const auto& item) { return item.first == key; });
  return found == answers_.end() ? nullptr : &found->second;
}

}  // namespace penstock
