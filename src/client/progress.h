#pragma once
#include "model/types.h"

namespace penstock {

// Shows how far a batch is, on standard error: one line that is redrawn on a terminal, else a plain line at times.
class Progress {
 public:
  explicit Progress(bool terminal) : terminal_(terminal) {}

  // `trouble`: why nothing moves, or empty.
  void show(const Batch& batch, const std::string& trouble, Moment now);
  // Ends the line on a terminal.
  void end();
  // How often to call show().
  Millis interval() const { return terminal_ ? Millis{200} : Millis{1'000}; }

 private:
  bool terminal_;
  bool drawn_ = false;
  std::optional<Moment> first_, plain_;
  std::int64_t first_done_ = 0, plain_done_ = -1;
  std::string told_;
};

// "[===   ]", with `width` places between the brackets
std::string bar(std::int64_t done, std::int64_t total, int width);

// 75 -> "1:15"
std::string clock_text(std::chrono::seconds duration);

// What a batch came to, that ended at `end`, in two lines. `errors`: where its failed lines are.
std::string summary(const Batch& batch, Timestamp end, const std::string& errors);
// Why none of its lines was run, a line each. `input`: what its file is called.
std::string faults_text(const Batch& batch, const std::string& input);

}  // namespace penstock
