#pragma once
#include <algorithm>

namespace penstock {

// How many requests an engine is given at a time: as many as it has slots, until it shows that these are too many. This
// is TCP's congestion control (RFC 5681) with good answers in the place of acknowledgements. Each setback begins a new
// round; what comes of the requests of earlier rounds says nothing about the new size.
class Window {
 public:
  explicit Window(int slots) : size_(slots), max_(slots), threshold_(slots) {}

  int size() const { return size_; }
  int round() const { return round_; }

  // A good answer to a request of that round. One more below the threshold, which doubles the size each time that all
  // have been answered; then one more each time.
  void grow(int round) {
    if (round != round_ || size_ == max_ || ++answered_ < (size_ < threshold_ ? 1 : size_)) return;
    ++size_;
    answered_ = 0;
  }
  // The engine is overloaded.
  void halve(int round) {
    if (round == round_) set_back(std::max(1, size_ / 2), size_ / 2);
  }
  // The engine takes nothing at the moment: when it does again, it begins with one request.
  void restart(int round) {
    if (round == round_) set_back(1, max_);
  }

 private:
  void set_back(int size, int threshold) {
    size_ = size;
    threshold_ = threshold;
    answered_ = 0;
    ++round_;
  }

  int size_, max_, threshold_;
  int answered_ = 0;  // since the size changed
  int round_ = 0;
};

}  // namespace penstock
