#include "client/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "client/table.h"
#include "client/terminal.h"

namespace penstock {
namespace {

constexpr int kBarWidth = 30;
constexpr Millis kPlainInterval{5'000};

}  // namespace

std::string clock_text(std::chrono::seconds duration) {
  const auto s = duration.count();
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string bar(std::int64_t done, std::int64_t total, int width) {
  const auto filled = static_cast<int>(total > 0 ? done * width / total : 0);
  return fmt::format("[{:=<{}}{: <{}}]", "", filled, "", width - filled);
}

void Progress::show(const Batch& batch, const std::string& trouble, Moment now) {
  if (!trouble.empty() && trouble != told_) {
    end();
    fmt::print(stderr, "waiting: {}\n", trouble);
  }
  told_ = trouble;
  const Counts& counts = batch.counts;
  if (batch.status == BatchStatus::validating || counts.total == 0) return;
  const std::int64_t done = counts.completed + counts.failed;
  if (!first_) {
    first_ = now;
    first_done_ = done;
  }
  const double seconds = std::chrono::duration<double>(now - *first_).count();
  const double rate = seconds > 0 ? static_cast<double>(done - first_done_) / seconds : 0;
  std::string text = fmt::format("{}/{} lines, {} failed, {:.1f} lines/s", done, counts.total, counts.failed, rate);
  if (rate > 0 && done < counts.total) {
    const auto left = std::chrono::seconds(static_cast<std::int64_t>(static_cast<double>(counts.total - done) / rate));
    text += fmt::format(", {} left", clock_text(left));
  }
  if (terminal_) {
    const std::string line = fmt::format("{} {}", bar(done, counts.total, kBarWidth), text);
    fmt::print(stderr, "\r{}\x1b[K",
               cut(line, terminal_columns(STDERR_FILENO) - 1));  // one that wraps cannot be redrawn
    std::fflush(stderr);
    drawn_ = true;
    return;
  }
  const bool news = done != plain_done_ && (!plain_ || now - *plain_ >= kPlainInterval || done == counts.total);
  if (!news) return;
  fmt::print(stderr, "{}\n", text);
  plain_ = now;
  plain_done_ = done;
}

void Progress::end() {
  if (drawn_) fmt::print(stderr, "\n");
  drawn_ = false;
}

std::string summary(const Batch& batch, Timestamp end, const std::string& errors) {
  const Counts& counts = batch.counts;
  const Timestamp start = batch.in_progress_at.value_or(end);
  const double seconds = std::chrono::duration<double>(end - start).count();
  // Servers tell whole seconds, of which too few make no rate.
  const std::string rates = seconds < 1 ? ""
                                        : fmt::format(", {:.1f} s, {:.1f} lines/s, {:.0f} output tokens/s", seconds,
                                                      static_cast<double>(counts.total) / seconds,
                                                      static_cast<double>(batch.usage.output) / seconds);
  return fmt::format(
      "{} of {} lines answered, {} failed{}\n"
      "{} input tokens ({} cached), {} output tokens{}\n",
      counts.completed, counts.total, counts.failed, counts.failed > 0 ? fmt::format(" (see {})", errors) : "",
      batch.usage.input, batch.usage.cached, batch.usage.output, rates);
}

std::string faults_text(const Batch& batch, const std::string& input) {
  std::string text;
  for (const LineError& error : batch.errors) {
    const std::string place = error.line ? fmt::format("{}:{}", input, *error.line) : input;
    text += fmt::format("{}: {} ({})\n", place, error.message, error.code);
  }
  return text + fmt::format("{} errors; nothing was run\n", batch.error_total);
}

}  // namespace penstock
