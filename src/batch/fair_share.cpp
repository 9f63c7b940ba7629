#include "batch/fair_share.h"

#include <algorithm>

namespace penstock {
namespace {

constexpr double kSecondsMin = 0.001;  // so that lines count that take no measurable time
constexpr double kCredit = 2;          // lines: whose slots were freed sooner than usual is owed no more than these
constexpr double kMemory = 8, kMemoryOfAll = 64;  // lines

double seconds(std::int64_t ms) {
  return static_cast<double>(ms) / 1'000;
}

std::int64_t ms(Moment moment) {
  return moment.time_since_epoch().count();
}

}  // namespace

double FairShare::own_level(const Share& share, Moment now) const {
  const double taken = seconds(share.slots * ms(now) - share.since);
  const double to_come = static_cast<double>(share.slots) * usual(share);
  return share.level + (taken + to_come) / static_cast<double>(share.weight);
}

double FairShare::level(const Share& share, Moment now) const {
  return std::max(own_level(share, now), reached_ - kCredit * usual(share) / static_cast<double>(share.weight));
}

void FairShare::give(Share& share, Moment now) {
  const double reached = level(share, now);
  share.level += reached - own_level(share, now);
  reached_ = std::max(reached_, reached);
  share.usual = usual(share);
  ++share.slots;
  share.since += ms(now);
}

void FairShare::take_back(Share& share, Moment given, Moment now) {
  const double took = std::max(seconds((now - given).count()), kSecondsMin);
  --share.slots;
  share.since -= ms(given);
  share.level += took / static_cast<double>(share.weight);
  share.usual += (took - share.usual) / kMemory;
  usual_ += (took - usual_) / kMemoryOfAll;
}

}  // namespace penstock
