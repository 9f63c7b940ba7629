#include "batch/line_queue.h"

#include <algorithm>
#include <cassert>

namespace penstock {
namespace {

constexpr std::size_t kLaneBytesMax = 4 << 20;  // of lines that wait for a slot of one engine
constexpr std::size_t kLaneLinesMin = 64;       // fewer there are short, so that reading has time
constexpr std::uint32_t kStretchMin = 32;       // entries; shorter ones would leave little of a shared prefix together

}  // namespace

void LineQueue::set_engines(const Slots& slots, std::size_t sharers) {
  sharers_ = sharers;
  Parts of_gone;
  std::erase_if(lanes_, [&](auto& item) {
    auto& [engine, lane] = item;
    if (slots.contains(engine)) return false;
    waiting_ -= lane.lines.size();
    std::move(lane.lines.begin(), lane.lines.end(), std::back_inserter(of_gone.lines));
    if (lane.stretch) of_gone.stretches.push_back(std::move(lane.stretch));
    return true;
  });
  restore(std::move(of_gone));
  slots_ = 0;
  for (const auto& [engine, count] : slots) {
    lanes_[engine].slots = count;
    slots_ += static_cast<std::size_t>(count);
  }
}

// As long as there is more than one span for each engine, an engine gets whole ones.
void LineQueue::add(const std::vector<std::shared_ptr<HeldSpan>>& spans) {
  std::uint32_t entries = 0;
  for (const auto& span : spans) entries += span->claim.count;
  const auto engines = static_cast<std::uint32_t>(std::max<std::size_t>(1, lanes_.size()));
  const std::uint32_t size = engines == 1 ? kSpanLines : std::clamp(entries / engines, kStretchMin, kSpanLines);
  for (const auto& span : spans) {
    const ClaimedSpan& claim = span->claim;
    for (std::uint32_t at = 0; at < claim.count; at += size) {
      auto stretch = std::make_shared<Stretch>();
      stretch->span = span;
      stretch->first = claim.first + at;
      stretch->count = std::min(size, claim.count - at);
      unread_.push_back(std::move(stretch));
    }
  }
}

// Twice the slots at least, so that one load is ready before the last line is used up.
bool LineQueue::is_short(const Lane& lane) const {
  return lane.lines.size() < std::max(2 * static_cast<std::size_t>(lane.slots), kLaneLinesMin) &&
         lane.bytes < kLaneBytesMax / sharers_ && for_any_.size() < std::max(2 * slots_, kLaneLinesMin);
}

std::shared_ptr<Stretch> LineQueue::next_to_read() {
  Lane* shortest = nullptr;
  for (auto& [engine, lane] : lanes_) {
    if (!is_short(lane) || (!lane.stretch && unread_.empty())) continue;
    if (!shortest || lane.lines.size() < shortest->lines.size()) shortest = &lane;
  }
  if (!shortest) return nullptr;
  if (!shortest->stretch) {
    shortest->stretch = std::move(unread_.front());
    unread_.pop_front();
  }
  return shortest->stretch;
}

bool LineQueue::runs_dry() const {
  return waiting_ < 2 * slots_ && unread_.empty() &&
         std::none_of(lanes_.begin(), lanes_.end(), [](const auto& item) { return item.second.stretch; });
}

// The engine may have gone while its stretch was read.
void LineQueue::loaded(const Stretch& stretch, std::vector<Line> lines) {
  const auto is_it = [&](const std::shared_ptr<Stretch>& other) { return other.get() == &stretch; };
  const auto lane =
      std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& item) { return is_it(item.second.stretch); });
  waiting_ += lines.size();
  auto& target = lane == lanes_.end() ? for_any_ : lane->second.lines;
  for (Line& line : lines) {
    if (lane != lanes_.end()) lane->second.bytes += line.body.size();
    target.push_back(std::move(line));
  }
  if (!stretch.is_read()) return;
  if (lane != lanes_.end()) {
    lane->second.stretch = nullptr;
  } else {
    std::erase_if(unread_, is_it);
  }
}

void LineQueue::push_front(Line line) {
  for_any_.push_front(std::move(line));
  ++waiting_;
}

std::size_t LineQueue::left() const {
  std::size_t left = waiting_;
  for (const auto& stretch : unread_) left += stretch->count;
  for (const auto& [engine, lane] : lanes_) left += lane.stretch ? lane.stretch->count : 0;
  return left;
}

bool LineQueue::has_line_for(std::size_t engine) const {
  if (!for_any_.empty()) return true;
  const auto own = lanes_.find(engine);
  if (own == lanes_.end()) return false;
  return !own->second.lines.empty() || (waiting_ > 0 && unread_.empty() && !own->second.stretch);
}

const Line* LineQueue::front(std::size_t engine) const {
  if (!for_any_.empty()) return &for_any_.front();
  const auto own = lanes_.find(engine);
  return own == lanes_.end() || own->second.lines.empty() ? nullptr : &own->second.lines.front();
}

void LineQueue::take_half_of_longest(Lane& thief) {
  Lane& longest = std::max_element(lanes_.begin(), lanes_.end(), [](const auto& a, const auto& b) {
                    return a.second.lines.size() < b.second.lines.size();
                  })->second;
  const std::size_t half = (longest.lines.size() + 1) / 2;
  const std::size_t count = std::min(half, static_cast<std::size_t>(std::max(1, thief.slots)));
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bytes = longest.lines.back().body.size();
    thief.lines.push_front(std::move(longest.lines.back()));
    longest.lines.pop_back();
    longest.bytes -= bytes;
    thief.bytes += bytes;
  }
}

Line LineQueue::take(std::size_t engine, const std::function<double(const Line&)>& expect) {
  assert(has_line_for(engine));
  --waiting_;
  if (!for_any_.empty()) {
    Line line = std::move(for_any_.front());
    for_any_.pop_front();
    return line;
  }
  Lane& lane = lanes_.at(engine);
  if (lane.lines.empty()) take_half_of_longest(lane);
  const auto chosen = expect ? next_in(lane, expect) : lane.lines.begin();
  Line line = std::move(*chosen);
  lane.lines.erase(chosen);
  lane.bytes -= line.body.size();
  return line;
}

std::deque<Line>::iterator LineQueue::next_in(Lane& lane, const std::function<double(const Line&)>& expect) const {
  const auto first = lane.lines.begin();
  const bool all_is_here = unread_.empty() && std::none_of(lanes_.begin(), lanes_.end(),
                                                           [](const auto& item) { return item.second.stretch; });
  if (!all_is_here || waiting_ >= 4 * slots_) return first;  // so many are not outlasted by one
  double sum = 0;
  for (const auto& [engine, other] : lanes_) {
    for (const Line& line : other.lines) sum += expect(line);
  }
  const auto longest =
      std::max_element(first, lane.lines.end(), [&](const Line& a, const Line& b) { return expect(a) < expect(b); });
  return expect(*longest) * static_cast<double>(slots_) >= sum ? longest : first;
}

void LineQueue::Parts::append(Parts&& more) {
  std::move(more.lines.begin(), more.lines.end(), std::back_inserter(lines));
  std::move(more.stretches.begin(), more.stretches.end(), std::back_inserter(stretches));
}

LineQueue::Parts LineQueue::remove(const std::function<bool(const HeldSpan&)>& gone) {
  Parts parts;
  const auto take_lines = [&](std::deque<Line>& lines) {
    std::size_t bytes = 0;
    std::erase_if(lines, [&](Line& line) {
      if (!gone(*line.span)) return false;
      bytes += line.body.size();
      parts.lines.push_back(std::move(line));
      return true;
    });
    return bytes;
  };
  take_lines(for_any_);
  for (auto& [engine, lane] : lanes_) {
    lane.bytes -= take_lines(lane.lines);
    if (lane.stretch && gone(*lane.stretch->span)) parts.stretches.push_back(std::move(lane.stretch));
  }
  std::erase_if(unread_, [&](std::shared_ptr<Stretch>& stretch) {
    if (!gone(*stretch->span)) return false;
    parts.stretches.push_back(std::move(stretch));
    return true;
  });
  waiting_ -= parts.lines.size();
  return parts;
}

void LineQueue::restore(Parts parts) {
  waiting_ += parts.lines.size();
  for_any_.insert(for_any_.begin(), std::move_iterator(parts.lines.begin()), std::move_iterator(parts.lines.end()));
  unread_.insert(unread_.begin(), parts.stretches.begin(), parts.stretches.end());
}

}  // namespace penstock
