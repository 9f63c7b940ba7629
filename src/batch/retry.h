#pragma once
#include "engine/engine.h"
#include "model/line_parser.h"
#include "model/output_line.h"

// Decides what an engine's answer means for its line. Pure: a table in its test.
namespace penstock::retry {

struct Options {
  int attempts_max = 5;
  Millis pause_first{1'000}, pause_max{60'000};  // doubled each time, full jitter
  Millis engine_pause{1'000};                    // of an engine that asks for patience without saying how much
  Millis engine_pause_min{100};                  // of one that says 0
  Millis engine_pause_denied{30'000};            // of one that refuses our key
};

// The line has its outcome, or it is to be sent again.
struct Verdict {
  std::optional<LineOutcome> outcome;
  bool counts = false;  // this was an attempt of the line's own
  Millis pause{0};      // before the line is sent again
  Millis hold{0};       // for which the engine takes no further line
};

// `attempts` counts this answer if it counts. An engine that is down, overloaded or refuses our key says nothing about
// the line, so it spends no attempt. `random` is in [0, 1).
Verdict judge(Answer&& answer, int attempts, double random, const Options& options, AnswerParser& parser);

}  // namespace penstock::retry
