#pragma once
#include <map>

#include "model/types.h"

namespace penstock {

// A line that has its outcome.
struct AnsweredLine {
  std::int64_t bytes = 0;      // in the input file
  Usage usage;                 // all 0 from an engine that counts no tokens
  Millis took{};               // with an engine, over all attempts
  std::int64_t under_way = 1;  // lines of its model at that time, itself included
};

// What some lines of one model came to: sums over them.
//
// A line's work is what an engine's time goes by: its answer's tokens, a part of its prompt's, and 1 for itself. So
// where no tokens are counted, lines are.
struct Pace {
  double lines = 0, bytes = 0;
  double prompt = 0, answer = 0;  // tokens; those of the prompt that the engine had cached cost it nothing
  double work_squared = 0;        // each line's own
  double seconds = 0, under_way = 0;

  double work() const;
  // Of all lines under way together. A guess when there are no lines.
  double work_per_second() const;
  // How many lines are under way at a time.
  double slots() const;
};

// Of two workers that are at it at the same time.
Pace together(const Pace& a, const Pace& b);

// Of one line.
double work(const Usage& usage);

// Learns what each model's lines come to, and how fast they are answered. Time in which no line is under way is no part
// of it. Loop thread only.
class Estimator {
 public:
  void add(const std::string& model, const AnsweredLine& line);

  // Of about the last half minute's lines, or the last hundred where those took longer; what is older counts less and
  // less.
  // With that of other workers.
  Pace pace(const std::string& model) const;

  // Without it.
  const std::map<std::string, Pace>& own() const { return own_; }
  void set_others(std::map<std::string, Pace> others) { others_ = std::move(others); }

 private:
  std::map<std::string, Pace> own_, others_;  // by model
};

// Of each project that is not 1.
using Weights = std::map<ProjectId, std::int64_t>;

// `queue` as Store::queue() gives it: each batch begins when the last line of its project and model before it has been
// sent. Projects with lines for one model have parts of its speed that go by their weights; when one has no more, the
// others have its part. What a batch's lines come to is judged by its own answers as far as there are some, and else by
// those of its model. A position is that among the batches of its project.
std::map<BatchId, QueuePlace> estimate(const std::vector<Batch>& queue, const Weights& weights,
                                       const Estimator& estimator, Timestamp now);

}  // namespace penstock
