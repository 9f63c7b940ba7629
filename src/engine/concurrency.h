#pragma once
#include "base/clock.h"
#include "engine/engine.h"

namespace penstock {

// What an answer says about its engine.
enum class Sign {
  none,
  good,        // it copes
  overloaded,  // it is given less at a time
  denied       // it refuses our key: one line at a time, to see whether it still does
};

// How many requests an engine is given at a time. Pure: it is told what happens, and when.
//
// To an engine of which the number of slots is known: so many, until it shows that these are too many. This is TCP's
// congestion control (RFC 5681) with good answers in the place of acknowledgements: below a threshold the size doubles
// each time that all have been answered, above it grows by one. Each change downwards begins a new round; what comes of
// the requests of earlier rounds says nothing about the new size.
//
// To another as many as it has a use for. One that tells its load is given more until requests wait in it, and then so
// many that only few do. Of one that does not the rate of its work is measured: growth must bring more of it, or is
// taken back; and now and then it is seen whether less would do.
//
// An engine that is shared with people is left places, and all of it while others use it. Only its load tells that.
class Concurrency {
 public:
  static constexpr int kStart = 64, kMax = 1024;  // of an unknown number

  // `slots`: that the engine has; 0: not known.
  Concurrency(int slots, bool is_shared);
  void know(int slots);

  bool is_shared() const { return is_shared_; }
  int size() const { return size_ < allowed_ ? size_ : allowed_; }
  int under_way() const { return under_way_; }

  // A request on its way.
  struct Request {
    int round = 0;
    Moment sent{};
    double before = 0;  // the area then
  };
  Request begin(Moment now);
  // What came of it, before its end. `work`: what it cost the engine, in any unit that is always the same; 0 when it
  // tells nothing of the engine's rate.
  void answered(const Request& request, Sign sign, double work, Moment now);
  void end(Moment now);
  bool is_news(const Request& request) const { return request.round == round_; }

  bool wants_load() const { return !is_known_ || is_shared_; }
  // `is_only_one`: there is no other that could do its work, so it need not show its pace before it is given more.
  void told(const Load& load, bool is_only_one, Moment now);

  // It went away: when it is back it begins with one request.
  void away();

 private:
  // What a number of answers tell of the engine's rate.
  struct Reading {
    int answers = 0;
    double work = 0, seconds = 0, area = 0;  // sums; area: of the requests under way, over the time that each one took
    void add(double one_work, double one_seconds, double one_area);
    bool is_done() const;
    double size() const { return area / seconds; }
    double rate() const { return work * size() / seconds; }  // Little's law
  };

  void pass(Moment now);
  bool is_full() const { return 4 * under_way_ >= 3 * size_; }
  bool goes_by_rate() const { return !is_known_ && (!is_told_ || is_shared_); }
  void grow();
  void read(double work, double seconds, double area);
  void judge();
  void try_less(Reading with_more);
  void set_size(int size, int threshold);
  void leave_room(const Load& load, Moment now);

  const bool is_shared_;
  bool is_known_ = false;
  int size_, max_ = 0;
  int threshold_ = 0;  // below it the size doubles
  int answered_ = 0;   // since the size changed
  int round_ = 0;
  bool has_grown_ = false;  // in this round

  int under_way_ = 0;
  Moment passed_{};
  double area_ = 0;  // of under_way_ over time, in seconds

  Reading base_, trial_;  // the rates before and after a change of size
  int more_ = 0;          // the size before it, when less is tried; 0: more is
  bool is_to_try_less_ = false;
  bool has_paid_ = false;              // growth, ever
  int taken_back_ = 0, patience_ = 0;  // growths since less was tried, and how many before it is tried again

  bool is_told_ = false, was_refused_ = false;
  double running_ = 0;  // that it told last
  Moment no_excess_{};  // of waiting ones, when it told last of that

  int allowed_ = kMax;  // while others use it
  Moment max_until_{};
  int most_ = 0, most_before_ = 0;  // under way since it told last, and before that
  Moment others_until_{};
};

}  // namespace penstock
