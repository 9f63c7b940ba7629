#include <fmt/format.h>

#include <deque>

#include "api/handlers.h"

namespace penstock {
namespace {

// What is waited for may be saved by a worker in another process, and nobody tells us: time is the event.
constexpr Millis kResultsPeriod{250}, kEventsPeriod{1'000};
constexpr Millis kSilenceMax{15'000};        // of events, before a comment shows that the connection lives
constexpr std::size_t kEnough = 256 << 10;   // bytes of lines read at once, unless one group or line is longer
constexpr std::int64_t kGroupsAtOnce = 256;  // looked through in one transaction

// Asked in a transaction behind its first statement: what that one still saw was not removed by the time that is taken
// now.
bool is_removed(Store& store, const BatchId& id, const Clock& clock) {
  const auto ended = store.ended_at(id);
  return ended && (*ended + kResultsKept <= clock.now() || store.has_deleted_files(id));
}

// How a line with that id begins.
std::string beginning(std::string_view id) {
  return fmt::format(R"({{"id":"{}")", id);
}

bool has_id(std::string_view line, std::string_view id) {
  return line.starts_with(beginning(id));
}

// The lines of an error file that tell of requests which were never run, because their batch was cancelled, had expired
// or had no model any more: they are in no result group. Functions block.
class NotRunLines {
 public:
  explicit NotRunLines(std::unique_ptr<BlobReader> file) : file_(std::move(file)) {}

  // Some more of them, one behind the other; empty at the end.
  std::string next() {
    std::string some;
    while (some.size() < kEnough) {
      const std::string_view line = next_line();
      if (line.empty()) break;
      some += line;
    }
    return some;
  }

  // Goes on behind the line with that id; false when there is none.
  bool go_behind(std::string_view id) {
    while (true) {
      const std::string_view line = next_line();
      if (line.empty()) return false;
      if (has_id(line, id)) return true;
    }
  }

 private:
  // By its code: batch_cancelled, batch_expired or model_unavailable. A line with a response, which may hold any text,
  // ends otherwise; and what stands before these keys is the custom_id, whose own quotes are escaped.
  static bool is_not_run(std::string_view line) {
    if (line.ends_with(",\"error\":null}\n")) return false;
    const std::string_view before = R"(,"response":null,"error":{"code":")";
    const std::size_t at = line.find(before);
    if (at == std::string_view::npos) return false;
    const std::string_view code = line.substr(at + before.size());
    return code.starts_with("batch_") || code.starts_with("model_unavailable");
  }

  std::string_view next_line() {
    while (true) {
      const std::size_t end = buffer_.find('\n', at_);
      if (end == std::string::npos) {
        buffer_.erase(0, std::exchange(at_, 0));
        const std::size_t size = buffer_.size();
        file_->read_at(offset_, kEnough, buffer_);
        offset_ += buffer_.size() - size;
        if (buffer_.size() == size) return {};
        continue;
      }
      const std::size_t begin = std::exchange(at_, end + 1);
      const auto line = std::string_view(buffer_).substr(begin, at_ - begin);
      if (is_not_run(line)) return line;
    }
  }

  std::unique_ptr<BlobReader> file_;
  std::uint64_t offset_ = 0;  // in the file, of what is read next
  std::string buffer_;
  std::size_t at_ = 0;  // in the buffer
};

// Lines in the order in which they were saved, then those of requests that were never run.
class ResultsSource : public ByteSource {
 public:
  // `follow`: waits for more until the batch has ended.
  ResultsSource(Services& services, Request& request, BatchId batch, bool follow)
      : services_(services), request_(request), batch_(std::move(batch)), follow_(follow) {}

  // Begins behind the line with that id. False when no such line was saved.
  Task<bool> begin_behind(std::string line_id) {
    const auto index = output_line_index(beginning(line_id));
    if (!index) co_return false;
    SavedPlace line;
    bool found = false;
    for (std::int64_t from = -1; !found && line.seq != from;) {
      from = line.seq;
      found = co_await services_.db.read(
          [&](Store& store) { return store.find_line(batch_, *index, line, kGroupsAtOnce); });
    }
    if (found) {
      SavedPlace end = line;
      const std::string text =
          co_await services_.db.read([&](Store& store) { return store.saved_lines(batch_, end, 1); });
      place_ = {line.seq, line.offset + text.find('\n') + 1};
      co_return has_id(text, line_id);
    }
    co_await end_saved();
    if (!not_run_) co_return false;
    co_return co_await blocking(services_.io, [&] { return not_run_->go_behind(line_id); });
  }

  Task<std::string_view> next() override {
    while (!saved_sent_) {
      piece_ = co_await look();
      if (!piece_.empty()) co_return piece_;
    }
    piece_.clear();
    if (not_run_) piece_ = co_await blocking(services_.io, [&] { return not_run_->next(); });
    co_return piece_;
  }

 private:
  // What was saved since the last look.
  Task<std::string> look() {
    co_await sleep_until(services_.clock, next_look_);
    if (request_.client_gone()) throw ClientGone("who followed the results has closed the connection");
    const Moment now = services_.clock.monotonic();
    std::optional<Timestamp> ended;
    bool removed = false;
    std::string lines = co_await services_.db.read([&](Store& store) {
      std::string some = store.saved_lines(batch_, place_, kEnough);
      ended = store.ended_at(batch_);
      removed = is_removed(store, batch_, services_.clock);
      return some;
    });
    if (removed)
      throw std::runtime_error("the results of a batch were removed before their follower had read them all");
    const bool more_comes = follow_ && !ended;
    if (lines.empty() && !more_comes) co_await end_saved();
    if (lines.size() < kEnough && more_comes) next_look_ = now + kResultsPeriod;
    co_return lines;
  }

  // The batch's saved lines are through.
  Task<> end_saved() {
    saved_sent_ = true;
    const auto batch = co_await services_.db.read([&](Store& store) { return store.find_batch(batch_); });
    if (!batch->error_file_id) co_return;
    auto file = co_await blocking(services_.io, [&] { return services_.blobs.open(batch->error_file_id->value); });
    if (file) not_run_.emplace(std::move(file));
  }

  Services& services_;
  Request& request_;
  const BatchId batch_;
  const bool follow_;
  Moment next_look_{};
  SavedPlace place_;
  bool saved_sent_ = false;
  std::optional<NotRunLines> not_run_;
  std::string piece_;
};

// One behind the other.
class Sources : public ByteSource {
 public:
  void add(std::unique_ptr<ByteSource> source) { sources_.push_back(std::move(source)); }

  Task<std::string_view> next() override {
    while (!sources_.empty()) {
      const std::string_view piece = co_await sources_.front()->next();
      if (!piece.empty()) co_return piece;
      sources_.pop_front();
    }
    co_return std::string_view();
  }

 private:
  std::deque<std::unique_ptr<ByteSource>> sources_;
};

class EventsSource : public ByteSource {
 public:
  EventsSource(Services& services, Request& request, const Batch& batch)
      : services_(services), request_(request), project_(batch.project), batch_(batch.id) {}

  Task<std::string_view> next() override {
    while (!ended_) {
      co_await sleep_until(services_.clock, next_look_);
      if (request_.client_gone()) throw ClientGone("who followed the events has closed the connection");
      const Moment now = services_.clock.monotonic();
      next_look_ = now + kEventsPeriod;
      auto batch = co_await batch_now(services_, project_, batch_);
      ended_ = batch->ended;
      if (batch->json != json_) {
        json_ = std::move(batch->json);
        text_ = fmt::format("event: batch\ndata: {}\n\n", json_);
        spoke_at_ = now;
        co_return text_;
      }
      if (now - spoke_at_ >= kSilenceMax) {
        spoke_at_ = now;
        co_return std::string_view(": keep-alive\n\n");
      }
    }
    co_return std::string_view();
  }

 private:
  Services& services_;
  Request& request_;
  const ProjectId project_;
  const BatchId batch_;
  Moment next_look_{}, spoke_at_{};
  bool ended_ = false;
  std::string json_, text_;
};

std::vector<FileId> result_files(const Batch& batch) {
  std::vector<FileId> ids;
  if (batch.output_file_id) ids.push_back(*batch.output_file_id);
  if (batch.error_file_id) ids.push_back(*batch.error_file_id);
  return ids;
}

Error results_expired(const Batch& batch) {
  std::vector<std::string> files;
  for (const FileId& id : result_files(batch)) files.push_back(id.value);
  return invalid_request(
      fmt::format("This batch ended too long ago to go on behind a line, or a file of it was deleted. Download its "
                  "files instead: {}.",
                  files.empty() ? "it has none" : fmt::format("{}", fmt::join(files, ", "))),
      "after", "results_expired");
}

}  // namespace

Task<Response> follow_results(Context& c) {
  Services& services = c.services;
  const auto after = query_param(c.request.query, "after");
  const std::string stream = query_param(c.request.query, "stream").value_or("false");
  if (stream != "true" && stream != "false") {
    co_return error_response(invalid_request("Invalid 'stream': must be 'true' or 'false'.", "stream"));
  }
  bool removed = false;
  const auto batch = co_await services.db.read([&](Store& store) {
    auto found = store.find_batch(c.caller.project, {c.id});
    removed = found && is_removed(store, found->id, services.clock);
    return found;
  });
  if (!batch) co_return error_response(no_such_batch({c.id}));
  if (removed && after) co_return error_response(results_expired(*batch));

  Response response;
  response.headers.add("Content-Type", "application/x-ndjson");
  if (removed) {
    auto files = std::make_unique<Sources>();
    for (const FileId& id : result_files(*batch)) {
      auto file = co_await blocking(services.io, [&] { return services.blobs.open(id.value); });
      if (file) files->add(whole_blob(services.io, std::move(file)));  // else it was deleted
    }
    response.stream = std::move(files);
    co_return response;
  }
  auto source = std::make_unique<ResultsSource>(services, c.request, batch->id, stream == "true");
  if (after) {
    const bool found = co_await source->begin_behind(*after);
    if (!found) {
      co_return error_response(invalid_request(
          fmt::format("Invalid 'after': '{}' is not the id of a line that this batch has saved. Send the `id` of the "
                      "last line that you received, or nothing to begin at the first.",
                      *after),
          "after"));
    }
  }
  response.stream = std::move(source);
  co_return response;
}

Task<Response> follow_events(Context& c) {
  const auto batch =
      co_await c.services.db.read([&](Store& store) { return store.find_batch(c.caller.project, {c.id}); });
  if (!batch) co_return error_response(no_such_batch({c.id}));
  Response response;
  response.headers.add("Content-Type", "text/event-stream");
  response.headers.add("Cache-Control", "no-store");
  response.stream = std::make_unique<EventsSource>(c.services, c.request, *batch);
  co_return response;
}

}  // namespace penstock
