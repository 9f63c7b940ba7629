#include "base/log.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

namespace penstock::log {
namespace {
std::atomic<Level> level_now{Level::info};
constexpr const char* kNames[] = {"debug", "info ", "warn ", "error"};
}  // namespace

void set_level(Level level) {
  level_now = level;
}
bool enabled(Level level) {
  return level >= level_now;
}

void write(Level level, std::string_view text) {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const std::string line = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z {} {}\n", seconds, (now - seconds).count(),
                                       kNames[static_cast<int>(level)], text);
  // One write a line keeps lines of several threads whole. A log that cannot be written is no reason to stop.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace penstock::log
