#include "cli/progress.h"

#include <fmt/format.h>

#include <cstdio>

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
    const auto filled = static_cast<int>(done * kBarWidth / counts.total);
    fmt::print(stderr, "\r[{:=<{}}{: <{}}] {}\x1b[K", "", filled, "", kBarWidth - filled, text);
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

}  // namespace penstock
