#include "base/log.h"

#include <fmt/chrono.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>

#include "base/json_text.h"

namespace penstock::log {
namespace {

std::atomic<Level> level_now{Level::info};
std::atomic<Format> format_now{Format::text};
constexpr const char* kPadded[] = {"debug", "info ", "warn ", "error"};
constexpr const char* kNames[] = {"debug", "info", "warn", "error"};
constexpr int kPriorities[] = {7, 6, 4, 3};  // of syslog(3)

// Whether standard error is a stream of systemd's journal (systemd.exec(5), JOURNAL_STREAM).
bool is_journal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  return stream && ::fstat(STDERR_FILENO, &status) == 0 && fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

std::string in_words(std::string_view text, const About& about) {
  if (!about.batch.empty()) return fmt::format("batch {}: {}", about.batch, text);
  if (!about.request_id.empty()) return fmt::format("{}: {}", about.request_id, text);
  return std::string(text);
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  if (value.empty()) return;
  out += fmt::format(",\"{}\":", name);
  append_json_string(out, value);
}

}  // namespace

void set_level(Level level) {
  level_now = level;
}
void set_format(Format format) {
  format_now = format;
}
bool enabled(Level level) {
  return level >= level_now;
}

std::string line(Format format, bool in_journal, std::int64_t unix_ms, Level level, std::string_view text,
                 const About& about) {
  const auto index = static_cast<int>(level);
  const std::chrono::sys_time<std::chrono::milliseconds> now{std::chrono::milliseconds(unix_ms)};
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  const std::string time = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", seconds, (now - seconds).count());
  if (format == Format::json) {
    std::string out = fmt::format(R"({{"time":"{}","level":"{}","message":)", time, kNames[index]);
    append_json_string(out, text);
    append_field(out, "batch", about.batch);
    append_field(out, "request_id", about.request_id);
    return out + "}\n";
  }
  std::string words = in_words(text, about);
  if (!in_journal) return fmt::format("{} {} {}\n", time, kPadded[index], words);
  // A line there is an entry of its own, so each has its priority.
  std::string out;
  for (std::string_view rest = words; !rest.empty();) {
    const std::string_view one = rest.substr(0, rest.find('\n'));
    out += fmt::format("<{}>{}\n", kPriorities[index], one);
    rest.remove_prefix(std::min(one.size() + 1, rest.size()));
  }
  return out;
}

void write(Level level, std::string_view text, const About& about) {
  static const bool in_journal = is_journal();
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const std::string out = line(format_now, in_journal, now.time_since_epoch().count(), level, text, about);
  // One write a line keeps lines of several threads whole. A log that cannot be written is no reason to stop.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, out.data(), out.size());
}

}  // namespace penstock::log
