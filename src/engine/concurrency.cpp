#include "engine/concurrency.h"

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

constexpr double kAnswersMin = 32, kAnswersMax = 128;  // that make a reading; between these as many as are under way
constexpr double kStep = 1.4;                          // between sizes that are compared
constexpr double kLead = 2.5;                          // how far growth may be ahead of what is known to pay
constexpr int kAnswersForOne = 8;                      // more in growth that is measured: slow against a turn of all
constexpr double kGain = 0.04;                         // of the rate, that a step up must bring
constexpr double kGainShared = 0.06;
constexpr double kLoss = 0.02;        // of the rate, that a step down may cost
constexpr double kLossOfHalf = 0.15;  // the same where half is tried, since readings vary by about as much
constexpr int kPatienceMin = 4, kPatienceMax = 16;
constexpr double kCacheFull = 0.95;    // beyond it an engine begins to throw requests out
constexpr Millis kTakesIn{1'000};      // for which what waits may be about to be taken in
constexpr Millis kMaxKept{300'000};    // what was found to be too much
constexpr Millis kOthersPause{1'000};  // of others, after which they are taken to have gone

double in_seconds(Millis time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Concurrency::Concurrency(int slots, bool is_shared)
    : is_shared_(is_shared), size_(slots > 0 ? slots : kStart), patience_(kPatienceMin) {
  know(slots);
}

void Concurrency::know(int slots) {
  is_known_ = slots > 0;
  max_ = !is_known_ ? kMax : is_shared_ ? std::max(1, slots - std::max(1, slots / 8)) : slots;
  threshold_ = max_;
  size_ = std::min(size_, max_);
}

void Concurrency::Reading::add(double one_work, double one_seconds, double one_area) {
  ++answers;
  work += one_work;
  seconds += one_seconds;
  area += one_area;
}

bool Concurrency::Reading::is_done() const {
  return answers >= kAnswersMin && answers >= std::min(size(), kAnswersMax);
}

void Concurrency::pass(Moment now) {
  area_ += under_way_ * in_seconds(now - passed_);
  passed_ = now;
}

Concurrency::Request Concurrency::begin(Moment now) {
  pass(now);
  most_ = std::max(most_, ++under_way_);
  return {round_, now, area_};
}

void Concurrency::end(Moment now) {
  pass(now);
  --under_way_;
}

void Concurrency::answered(const Request& request, Sign sign, double work, Moment now) {
  if (!is_news(request)) return;
  pass(now);
  switch (sign) {
    case Sign::none:
      break;
    case Sign::good:
      if (!is_known_ && !is_full()) break;
      grow();
      if (goes_by_rate() && work > 0) read(work, in_seconds(now - request.sent), area_ - request.before);
      break;
    case Sign::overloaded: {
      // Where the number was found by growing, one less was still good.
      const bool by_little = !is_known_ && has_grown_;
      was_refused_ = true;
      set_size(by_little ? size_ - std::max(1, size_ / 8) : size_ / 2, by_little ? 0 : size_ / 2);
      break;
    }
    case Sign::denied:
      set_size(1, max_);
      break;
  }
}

void Concurrency::grow() {
  if (size_ == max_) return;
  const bool doubles = size_ < threshold_;
  if (goes_by_rate()) {
    if (!doubles && (more_ > 0 || !base_.is_done())) return;
    if (base_.is_done() && size_ > kLead * base_.size()) return;
  } else if (!doubles && !is_known_ && !was_refused_) {
    return;  // its load tells when
  }
  const int answers = doubles ? 1 : goes_by_rate() && !was_refused_ ? std::min(size_, kAnswersForOne) : size_;
  if (++answered_ < answers) return;
  ++size_;
  answered_ = 0;
  has_grown_ = true;
}

void Concurrency::read(double work, double seconds, double area) {
  if (!base_.is_done()) {
    base_.add(work, seconds, area);
    if (base_.is_done() && is_to_try_less_) try_less(base_);
  } else if (more_ > 0 || area >= kStep * base_.size() * seconds) {
    trial_.add(work, seconds, area);
    if (trial_.is_done()) judge();
  }
}

void Concurrency::judge() {
  const double gain = trial_.rate() / base_.rate() - 1;
  if (more_ > 0) {
    if (gain >= -(has_paid_ ? kLoss : kLossOfHalf)) return try_less(trial_);
    has_paid_ = true;
    taken_back_ = 0;
    patience_ = std::min(2 * patience_, kPatienceMax);
    set_size(more_, 0);
  } else if (gain >= (is_shared_ ? kGainShared : kGain)) {
    has_paid_ = true;
    base_ = std::exchange(trial_, {});
    threshold_ = std::max(threshold_, std::min(2 * size_, max_));
  } else {
    set_size(static_cast<int>(base_.size() + 0.5), 0);
    is_to_try_less_ = !has_paid_ || ++taken_back_ >= patience_;
  }
}

// Until growth has paid once, the number may be far too large.
void Concurrency::try_less(const Reading with_more) {
  const int more = size_;
  set_size(static_cast<int>(size_ / (has_paid_ ? kStep : 2)), 0);
  if (size_ == more) return;
  base_ = with_more;
  more_ = more;
}

void Concurrency::set_size(int size, int threshold) {
  size_ = std::max(1, size);
  threshold_ = threshold;
  ++round_;
  answered_ = 0;
  has_grown_ = is_to_try_less_ = false;
  base_ = trial_ = {};
  more_ = 0;
}

void Concurrency::told(const Load& load, bool is_only_one, Moment now) {
  is_told_ = true;
  if (is_shared_) leave_room(load, now);
  if (is_known_ || allowed_ < size_) return;
  if (now >= max_until_) max_ = kMax;
  // Enough for it never to wait for us; where others wait behind ours, only what has just come.
  const int queue = is_shared_ ? 2 : 1 + static_cast<int>(load.running / 32);
  const int excess = static_cast<int>(load.waiting) - queue;
  const bool takes_in = load.running > std::exchange(running_, load.running) * 1.06;
  if (excess <= 0 || takes_in) no_excess_ = now;
  if (now - no_excess_ >= kTakesIn) {
    const int left = under_way_ - excess - (load.cache > kCacheFull ? size_ / 16 : 0);
    if (left >= size_) return;
    if (!is_shared_) {
      size_ = std::max(1, left);
      threshold_ = 0;
    } else {
      max_ = std::max(1, left - std::max(1, left / 8));  // others find a place at once
      max_until_ = now + kMaxKept;
      set_size(max_, 0);
    }
  } else if (!is_shared_ && !was_refused_ && load.waiting < 1 && load.cache < kCacheFull && is_full() &&
             load.running >= 0.9 * under_way_) {
    const bool leaps = size_ < threshold_;
    if (!leaps || is_only_one) size_ = std::min(max_, size_ + (leaps ? size_ : 1 + size_ / 16));
  }
}

void Concurrency::leave_room(const Load& load, Moment now) {
  // What it tells may be a little older than our own count.
  const double others = load.running + load.waiting - std::max(most_, most_before_);
  most_before_ = std::exchange(most_, under_way_);
  if (others >= 1) {
    others_until_ = now + kOthersPause;
    if (allowed_ >= size_) set_size(size_, threshold_);  // answers from now on tell nothing of its rate
    allowed_ = 1;
  } else if (now >= others_until_ && load.waiting < 1) {
    allowed_ = allowed_ < size_ ? allowed_ + std::max(1, size_ / 16) : kMax;
  }
}

void Concurrency::away() {
  set_size(1, max_);
  is_told_ = was_refused_ = false;
  allowed_ = kMax;
}

}  // namespace penstock
