#include "client/batch_view.h"

#include <fmt/format.h>

#include "base/exit_codes.h"
#include "client/table.h"

namespace penstock {
namespace {

std::optional<Timestamp> time(const json::object& object, std::string_view name) {
  const std::int64_t seconds = whole(object, name);
  return seconds > 0 ? std::optional(Timestamp(std::chrono::seconds(seconds))) : std::nullopt;
}

std::optional<FileId> file(const json::object& object, std::string_view name) {
  std::string id = text(object, name);
  return id.empty() ? std::nullopt : std::optional(FileId{std::move(id)});
}

}  // namespace

Batch read_batch(const json::object& object) {
  Batch batch;
  batch.id = {text(object, "id")};
  batch.status = parse_batch_status(text(object, "status"));
  const json::object& counts = penstock::object(object, "request_counts");
  batch.counts = {whole(counts, "total"), whole(counts, "completed"), whole(counts, "failed")};
  const json::object& usage = penstock::object(object, "usage");
  batch.usage = {.input = whole(usage, "input_tokens"),
                 .cached = whole(penstock::object(usage, "input_tokens_details"), "cached_tokens"),
                 .output = whole(usage, "output_tokens"),
                 .reasoning = whole(penstock::object(usage, "output_tokens_details"), "reasoning_tokens")};
  const json::object& errors = penstock::object(object, "errors");
  for (const json::object& error : items(errors)) {
    const std::int64_t line = whole(error, "line");
    batch.errors.push_back({.code = shown(text(error, "code")),
                            .message = shown(text(error, "message")),
                            .param = std::nullopt,
                            .line = line > 0 ? std::optional(line) : std::nullopt});
  }
  batch.error_total = std::max<std::int64_t>(whole(errors, "total"), static_cast<std::int64_t>(batch.errors.size()));
  batch.output_file_id = file(object, "output_file_id");
  batch.error_file_id = file(object, "error_file_id");
  batch.created_at = time(object, "created_at").value_or(Timestamp{});
  batch.in_progress_at = time(object, "in_progress_at");
  batch.completed_at = time(object, "completed_at");
  batch.failed_at = time(object, "failed_at");
  batch.expired_at = time(object, "expired_at");
  batch.cancelled_at = time(object, "cancelled_at");
  return batch;
}

std::string why_it_waits(const json::object& batch) {
  if (whole(batch, "paused_at") > 0) {
    return fmt::format("it is paused; penstock resume {} lets it go on", text(batch, "id"));
  }
  const std::int64_t position = whole(batch, "queue_position");
  if (position > 1) return fmt::format("{} before it in the queue", position - 1);
  return "";
}

int exit_code_of(const Batch& batch) {
  switch (batch.status) {
    case BatchStatus::failed:
      return kExitBatchFailed;
    case BatchStatus::expired:
      return kExitBatchExpired;
    case BatchStatus::cancelled:
      return kExitBatchCancelled;
    default:
      return batch.counts.failed > 0 ? kExitLinesFailed : kExitOk;
  }
}

}  // namespace penstock
