#include <fmt/format.h>

#include "base/exit_codes.h"
#include "client/batch_view.h"
#include "client/commands.h"
#include "client/follow.h"
#include "client/local_files.h"
#include "client/table.h"

namespace penstock {
namespace {

constexpr int kPageMax = 100;

std::string time_of(const json::object& object, std::string_view name) {
  const std::int64_t seconds = whole(object, name);
  return time_text(seconds > 0 ? std::optional(Timestamp(std::chrono::seconds(seconds))) : std::nullopt);
}

std::string lines_of(const json::object& batch) {
  const json::object& counts = object(batch, "request_counts");
  return fmt::format("{}/{}", whole(counts, "completed") + whole(counts, "failed"), whole(counts, "total"));
}

std::string status_of(const json::object& batch) {
  const std::string status = shown(text(batch, "status"));
  return whole(batch, "paused_at") > 0 ? status + " (paused)" : status;
}

std::string or_dash(std::string text) {
  return text.empty() ? "-" : shown(text);
}

void print_batch(const json::object& batch) {
  const json::object& usage = object(batch, "usage");
  const auto row = [](std::string_view name, const std::string& value) {
    if (!value.empty() && value != "-") fmt::print("{:<12} {}\n", name, value);
  };
  row("id", text(batch, "id"));
  row("status", status_of(batch));
  row("waits for", why_it_waits(batch));
  row("lines", fmt::format("{}, {} failed", lines_of(batch), whole(object(batch, "request_counts"), "failed")));
  row("tokens",
      fmt::format("{} in ({} cached), {} out", whole(usage, "input_tokens"),
                  whole(object(usage, "input_tokens_details"), "cached_tokens"), whole(usage, "output_tokens")));
  row("model", or_dash(text(batch, "model")));
  row("endpoint", or_dash(text(batch, "endpoint")));
  row("priority", std::to_string(whole(batch, "priority")));
  row("retry of", or_dash(text(batch, "retry_of")));
  row("created", time_of(batch, "created_at"));
  row("started", time_of(batch, "in_progress_at"));
  for (const char* end : {"completed", "failed", "expired", "cancelled"}) {
    row(end, time_of(batch, fmt::format("{}_at", end)));
  }
  row("starts about", or_dash(text(batch, "estimated_start_time")));
  row("ends about", or_dash(text(batch, "estimated_completion_time")));
  row("input", or_dash(text(batch, "input_file_id")));
  row("output", or_dash(text(batch, "output_file_id")));
  row("errors", or_dash(text(batch, "error_file_id")));
  for (const auto& [key, value] : object(batch, "metadata")) {
    if (value.is_string())
      row("metadata", shown(fmt::format("{}={}", std::string_view(key), value.get_string().c_str())));
  }
  for (const json::value& item : array(batch, "deliveries")) {
    if (!item.is_object()) continue;
    const json::object& delivery = item.get_object();
    row("delivery", shown(fmt::format("{} {} to {}", text(delivery, "id"), text(delivery, "status"),
                                      text(delivery, "destination"))));
  }
  for (const json::object& fault : items(object(batch, "errors"))) {
    const std::int64_t line = whole(fault, "line");
    row("fault", (line > 0 ? fmt::format("line {}: ", line) : "") + shown(text(fault, "message")));
  }
}

void print_one(const json::object& batch, const ClientOptions& options, const std::string& words) {
  if (options.json) {
    print_json(batch);
  } else {
    fmt::print(stderr, "{}\n", words);
  }
}

Task<json::object> act(Session& session, std::string given, std::string action) {
  const std::string id = co_await batch_id(session.server, given);
  json::object batch = co_await session.server.send("POST", fmt::format("/v1/batches/{}/{}", id, action));
  co_return batch;
}

}  // namespace

Task<int> list(Session& session, const ClientOptions& options) {
  std::vector<std::vector<std::string>> rows{{"ID", "STATUS", "LINES", "FAILED", "MODEL", "CREATED"}};
  std::string after;
  for (int left = options.limit; left > 0;) {
    std::string path = fmt::format("/v1/batches?limit={}", std::min(left, kPageMax));
    if (options.status) path += "&status=" + *options.status;
    if (!after.empty()) path += "&after=" + after;
    const json::object page = co_await session.server.get(path);
    for (const json::object& batch : items(page)) {
      if (options.json) print_json(batch);
      rows.push_back({text(batch, "id"), status_of(batch), lines_of(batch),
                      std::to_string(whole(object(batch, "request_counts"), "failed")), or_dash(text(batch, "model")),
                      time_of(batch, "created_at")});
      --left;
    }
    after = text(page, "last_id");
    if (!truth(page, "has_more") || after.empty()) break;
  }
  if (!options.json) print_table(rows);
  co_return kExitOk;
}

Task<int> show(Session& session, const ClientOptions& options) {
  const std::string id = co_await batch_id(session.server, options.id);
  const json::object batch = co_await session.server.get("/v1/batches/" + id);
  if (options.json) {
    print_json(batch);
  } else {
    print_batch(batch);
  }
  co_return kExitOk;
}

Task<int> cancel(Session& session, const ClientOptions& options) {
  const json::object batch = co_await act(session, options.id, "cancel");
  const std::string id = text(batch, "id");
  print_one(batch, options, fmt::format("{} is {}", id, text(batch, "status")));
  if (!options.wait) co_return kExitOk;
  const int code = co_await follow_batch(session, id, id, options);
  co_return code == kExitBatchCancelled ? kExitOk : code;
}

Task<int> retry(Session& session, const ClientOptions& options) {
  if (options.output) check_outputs(*options.output, options.errors);
  const std::string old = co_await batch_id(session.server, options.id);
  json::object made = co_await session.server.post_once(fmt::format("/v1/batches/{}/retry", old), "");
  const int code = co_await tell_new_batch(session, std::move(made), "", options);
  co_return code;
}

Task<int> pause(Session& session, const ClientOptions& options) {
  const json::object batch = co_await act(session, options.id, "pause");
  print_one(batch, options, fmt::format("{0} is paused; penstock resume {0} lets it go on", text(batch, "id")));
  co_return kExitOk;
}

Task<int> resume(Session& session, const ClientOptions& options) {
  const json::object batch = co_await act(session, options.id, "resume");
  print_one(batch, options, fmt::format("{} goes on", text(batch, "id")));
  co_return kExitOk;
}

}  // namespace penstock
