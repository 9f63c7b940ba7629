#include "client/system_view.h"

#include <fmt/format.h>

#include "client/batch_view.h"
#include "client/progress.h"
#include "client/table.h"

namespace penstock {
namespace {

using Rows = std::vector<std::vector<std::string>>;
constexpr int kBarWidth = 16;
constexpr std::size_t kEnginesMin = 4;  // that are shown however long the queue is

std::string rate(const json::object& object, std::string_view name) {
  return fmt::format("{:.1f}", real(object, name));
}

std::string busy(const json::object& object) {
  return fmt::format("{}/{}", whole(object, "slots_busy"), whole(object, "slots"));
}

Rows queue_rows(const json::object& queue) {
  Rows rows{{"BATCH", "STATUS", "PROGRESS", "LINES", "FAILED", "LINES/S", "MODEL", "WAITS FOR"}};
  for (const json::object& batch : items(queue)) {
    const json::object& counts = object(batch, "request_counts");
    const std::int64_t done = whole(counts, "completed") + whole(counts, "failed"), total = whole(counts, "total");
    rows.push_back({text(batch, "id"), shown(text(batch, "status")), bar(done, total, kBarWidth),
                    fmt::format("{}/{}", done, total), std::to_string(whole(counts, "failed")),
                    rate(batch, "lines_per_second"), shown(text(batch, "model")), why_it_waits(batch)});
  }
  return rows;
}

// The rates of the last step, over its seconds.
std::string totals(const SystemView& view) {
  const double step = std::max<double>(1, static_cast<double>(view.step));
  return fmt::format("{:.1f} lines/s   {:.0f} output tokens/s   {} failed   slots {}   {} lines in {} batches wait",
                     real(view.point, "lines") / step, real(view.point, "output_tokens") / step,
                     whole(view.point, "failed"), busy(view.point), whole(view.point, "queued_lines"),
                     whole(view.point, "queued_batches"));
}

// A table of at most `rows_max` lines.
void add_table(std::vector<FullScreen::Line>& lines, const Rows& rows, std::size_t rows_max) {
  const auto table = table_lines(rows);
  const std::size_t room = std::max<std::size_t>(rows_max, 2);
  const std::size_t fit = table.size() <= room ? table.size() : room - 1;
  for (std::size_t i = 0; i < fit; ++i) lines.push_back({table[i], i == 0});
  if (fit < table.size()) lines.push_back({fmt::format("… {} more", table.size() - fit)});
}

}  // namespace

Rows engine_rows(const json::object& engines) {
  Rows rows{{"ENGINE", "KIND", "STATE", "SLOTS", "WAITING", "LINES/S", "TOKENS/S", "MODELS", "REASON"}};
  for (const json::object& engine : items(engines)) {
    rows.push_back({shown(text(engine, "name")), shown(text(engine, "kind")), shown(text(engine, "state")),
                    busy(engine), std::to_string(whole(engine, "waiting")), rate(engine, "lines_per_second"),
                    rate(engine, "tokens_per_second"), shown(joined(engine, "models")), shown(text(engine, "reason"))});
  }
  return rows;
}

Rows worker_rows(const json::object& workers) {
  Rows rows{{"PROCESS", "WORKER", "HOST", "PID", "VERSION", "SLOTS", "ENGINES", "LINES/S", "TOKENS/S", "STATE"}};
  for (const json::object& worker : items(workers)) {
    std::string state = truth(worker, "draining") ? "draining" : "";
    if (truth(worker, "disk_low")) state += state.empty() ? "disk full" : ", disk full";
    rows.push_back({shown(text(worker, "id")), truth(worker, "is_worker") ? "yes" : "no", shown(text(worker, "host")),
                    std::to_string(whole(worker, "pid")), shown(text(worker, "version")), busy(worker),
                    std::to_string(whole(worker, "engines")), rate(worker, "lines_per_second"),
                    rate(worker, "tokens_per_second"), state});
  }
  return rows;
}

std::vector<FullScreen::Line> system_lines(const SystemView& view, std::size_t rows_max) {
  std::vector<FullScreen::Line> lines;
  const auto batches = items(view.queue).size();
  lines.push_back({fmt::format("penstock at {}: {} batches", view.url, batches), true});
  if (!view.trouble.empty()) lines.push_back({fmt::format("waiting: {}", view.trouble)});
  Rows engines, workers;
  if (view.all) {
    lines.push_back({totals(view)});
    engines = engine_rows(view.engines);
    workers = worker_rows(view.workers);
  } else {
    lines.push_back({"This key may not see engines and workers: it needs the scope monitor."});
  }
  const bool several = workers.size() > 2;  // of one process the engines tell all
  const std::size_t left = rows_max > lines.size() ? rows_max - lines.size() : 0;
  const std::size_t below = engines.empty() ? 0 : engines.size() + 1 + (several ? workers.size() + 1 : 0);
  const std::size_t for_queue = std::max(left / 2, left > below ? left - below : 0);
  lines.push_back({""});
  add_table(lines, queue_rows(view.queue), for_queue > 1 ? for_queue - 1 : 0);
  for (const Rows* rows : {&engines, several ? &workers : nullptr}) {
    if (!rows || rows->empty()) continue;
    lines.push_back({""});
    const std::size_t used = lines.size();
    add_table(lines, *rows, std::max(kEnginesMin, rows_max > used ? rows_max - used : 0));
  }
  return lines;
}

}  // namespace penstock
