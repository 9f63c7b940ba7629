#pragma once
#include <array>

#include "engine/registry.h"
#include "model/line_parser.h"
#include "model/output_line.h"

// Decides what an engine's answer means for its line. Pure: a table in its test.
namespace penstock::retry {

struct Options {
  int attempts_max = 5;
  int deaths_max = 3;                            // of engines, after which a line is suspected of causing them
  Millis pause_first{1'000}, pause_max{60'000};  // doubled each time, full jitter
  Millis engine_pause{1'000};                    // of an engine that asks for patience without saying how much
  Millis engine_pause_min{100};                  // of one that says 0
  Millis engine_pause_denied{2'000};             // of one that refuses our key
};

// Why a line is to be sent again.
enum class Reason {
  unreachable,
  engine_died,
  timeout,
  broken_response,
  invalid_response,
  overloaded,
  key_refused,
  server_error
};
// Their names, in that order.
constexpr std::array<std::string_view, 8> kReasons = {"unreachable",     "engine_died",      "timeout",
                                                      "broken_response", "invalid_response", "overloaded",
                                                      "key_refused",     "server_error"};

// The line has its outcome, or it is to be sent again, and why.
struct Verdict {
  std::optional<LineOutcome> outcome;
  Reason reason{};
  bool counts = false;  // this was an attempt of the line's own
  Millis pause{0};      // before the line is sent again
  Sign sign = Sign::none;
  Millis hold{0};  // for which the engine takes no further line
};

// What a line has behind it, this answer included, should it count.
struct Past {
  int attempts = 1;
  int deaths = 0;  // of engines, with the line under way
};

// An engine that is down, overloaded or refuses our key says nothing about the line, so it spends no attempt. One that
// dies may do so because of the line: a suspect is to be sent alone, and when its engine dies again, that is its
// outcome. `random` is in [0, 1).
Verdict judge(Answer&& answer, Past past, double random, const Options& options, AnswerParser& parser);
inline bool is_suspect(int deaths, const Options& options) {
  return deaths >= options.deaths_max;
}

}  // namespace penstock::retry
