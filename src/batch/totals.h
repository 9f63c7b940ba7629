#pragma once
#include <array>
#include <map>
#include <string>

#include "base/metrics.h"
#include "batch/retry.h"

namespace penstock {

// What a worker has done since its start. Loop thread only; only the dispatcher changes it.
struct Totals {
  // Engines tell what models there are, and some tell of very many: from so many on the others are counted together.
  static constexpr std::size_t kModelsMax = 100;
  static constexpr const char* kOtherModels = "other";

  static constexpr double kLineSeconds[] = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
  static constexpr double kCommitSeconds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5};
  static constexpr double kCommitLines[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};

  struct Model {
    std::int64_t completed = 0, failed = 0;         // lines whose outcome was saved
    Usage tokens;                                   // of these
    metrics::Histogram line_seconds{kLineSeconds};  // with engines, over all attempts
  };
  std::map<std::string, Model, std::less<>> models;
  Model& of(std::string_view model) {
    const auto found = models.find(model);
    if (found != models.end()) return found->second;
    return models[models.size() < kModelsMax ? std::string(model) : kOtherModels];
  }

  std::array<std::int64_t, retry::kReasons.size()> retries{};  // lines that were to be sent again, by retry::Reason
  std::int64_t spans_lost = 0;                                 // that others had claimed when their lines were saved
  metrics::Histogram commit_seconds{kCommitSeconds}, commit_lines{kCommitLines};
};

}  // namespace penstock
