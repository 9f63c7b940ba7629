#pragma once
#include <cstdint>

#include "base/clock.h"

namespace penstock {

// What one project has had of a model's slots, and has now.
struct Share {
  std::int64_t weight = 1;
  double level = 0;        // seconds for which it had those that it gave back, each by its weight at the time
  double usual = 0;        // seconds for which it has one, about
  std::int64_t slots = 0;  // that it has now
  std::int64_t since = 0;  // milliseconds: the sum over these of when each was given
};

// Divides the slots of one model among the projects that have lines for it, so that each has them for as long as its
// weight says against the others': whose level is the lowest is given the next one. Time is what counts, since that is
// what a slot is to others, whatever comes of the line. A slot that a project has now counts for as long as it has had
// it, and for as long as it usually has one: nobody knows how long it still will. Pure, but for what it learns.
class FairShare {
 public:
  // Who comes, or comes back, starts where the others are: nobody saves up what he did not want.
  double level(const Share& share, Moment now) const;
  void give(Share& share, Moment now);
  void take_back(Share& share, Moment given, Moment now);

 private:
  double usual(const Share& share) const { return share.usual > 0 ? share.usual : usual_; }
  double own_level(const Share& share, Moment now) const;

  double reached_ = 0;  // the level of who was given a slot: the highest one, but for those who fell behind
  double usual_ = 0.001;
};

}  // namespace penstock
