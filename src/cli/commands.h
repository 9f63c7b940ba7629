#pragma once
#include <optional>
#include <string>

#include "cli/config.h"

namespace penstock {

constexpr int kExitOk = 0, kExitLinesFailed = 1, kExitUsage = 2, kExitAccident = 70, kExitInterrupted = 130;

// Serves the API until SIGINT or SIGTERM; returns the exit code.
int serve(const Config& config);

struct RunOptions {
  std::string input, output;
  std::optional<std::string> errors;  // default: beside the output
};

// One batch from file to file, without a server. Started again after an interruption it goes on where it was: its
// state is in a folder beside the output, removed at the end. Returns the exit code.
int run(const Config& config, const RunOptions& options);

}  // namespace penstock
