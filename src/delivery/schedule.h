#pragma once
#include <optional>

#include "base/clock.h"
#include "net/http.h"

namespace penstock {

// When to try a delivery again after so many failures (at least 1), or nothing when that was the last: 5 s, 5 min,
// 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h behind the attempt before, and up to a tenth later, by `draw` from 0 to
// before 1, so that what failed together does not come back together. What a receiver asks for is waited for too, up to
// an hour.
std::optional<Millis> pause_after(std::int64_t failures, const std::optional<Millis>& retry_after, double draw);

// Retry-After in seconds (RFC 9110, section 10.2.3); the form with a date is waited for by the schedule alone.
std::optional<Millis> retry_after(const Headers& headers);

}  // namespace penstock
