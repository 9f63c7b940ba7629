#pragma once
#include <map>
#include <optional>

#include "model/types.h"

namespace penstock {

// What a project's request is told of its rate.
struct RequestRate {
  bool is_within = true;
  std::int64_t limit = 0, remaining = 0;  // requests: a second, and at once
  Millis reset{};                         // until as many as that can be sent at once again
};

// How many requests each project may send to this server: so many a second, and as many at once when it has sent none
// for a second (a token bucket). Loop thread only.
class RequestRates {
 public:
  // What the store says is believed for so long.
  static constexpr Millis kBelieved{1'000};

  // Whether it was not told for so long.
  bool must_ask(const ProjectId& project, Moment now) const;
  // Requests a second; nothing: no limit.
  void set(const ProjectId& project, std::optional<std::int64_t> limit, Moment now);
  // Nobody can tell: what was is. False when nothing was.
  bool keep(const ProjectId& project, Moment now);
  // One more request; nothing when the project has no limit.
  std::optional<RequestRate> count(const ProjectId& project, Moment now);

 private:
  struct Bucket {
    Moment asked_at{}, filled_at{};
    std::optional<std::int64_t> limit;
    double tokens = 0;
  };
  std::map<ProjectId, Bucket> buckets_;
};

}  // namespace penstock
