#include "api/request_rates.h"

#include <algorithm>
#include <cmath>

namespace penstock {

bool RequestRates::must_ask(const ProjectId& project, Moment now) const {
  const auto found = buckets_.find(project);
  return found == buckets_.end() || now - found->second.asked_at >= kBelieved;
}

void RequestRates::set(const ProjectId& project, std::optional<std::int64_t> limit, Moment now) {
  Bucket& bucket = buckets_[project];
  if (limit && !bucket.limit) {
    bucket.tokens = static_cast<double>(std::max<std::int64_t>(*limit, 1));
    bucket.filled_at = now;
  }
  bucket.limit = limit;
  bucket.asked_at = now;
}

bool RequestRates::keep(const ProjectId& project, Moment now) {
  const auto found = buckets_.find(project);
  if (found == buckets_.end()) return false;
  found->second.asked_at = now;
  return true;
}

std::optional<RequestRate> RequestRates::count(const ProjectId& project, Moment now) {
  Bucket& bucket = buckets_[project];
  if (!bucket.limit) return std::nullopt;
  const auto limit = static_cast<double>(std::max<std::int64_t>(*bucket.limit, 1));
  const double seconds = std::chrono::duration<double>(now - bucket.filled_at).count();
  bucket.tokens = std::min(limit, bucket.tokens + limit * seconds);
  bucket.filled_at = now;
  // A millisecond is not always a whole part of a token.
  RequestRate rate{.is_within = bucket.tokens >= 1 - 1e-9, .limit = static_cast<std::int64_t>(limit)};
  if (rate.is_within) bucket.tokens -= 1;
  rate.remaining = static_cast<std::int64_t>(std::max(bucket.tokens, 0.0) + 1e-9);
  rate.reset = Millis(static_cast<std::int64_t>(std::ceil(1'000 * (limit - bucket.tokens) / limit - 1e-6)));
  return rate;
}

}  // namespace penstock
