#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "api/views.h"
#include "batch/lines_of_files.h"
#include "model/output_line.h"
#include "model/wire.h"
#include "store/saved_groups.h"

namespace penstock {
namespace {

constexpr std::size_t kBodyMax = 64 << 10;                // of a body that is shown
constexpr std::int64_t kGroupsAtOnce = 1'000;             // in one transaction
constexpr std::size_t kResultsLookedThrough = 128 << 20;  // of result files, for one page

enum class LineStatus { pending, completed, failed };

std::string_view to_string(LineStatus status) {
  switch (status) {
    case LineStatus::pending:
      return "pending";
    case LineStatus::completed:
      return "completed";
    case LineStatus::failed:
      break;
  }
  return "failed";
}

// What is asked for.
struct Query {
  std::optional<LineStatus> status;
  std::string custom_id;
  std::uint32_t from = 0;
  std::size_t limit = 20;
};

struct FoundLine {
  std::uint32_t index = 0;
  LineStatus status{};
  std::string custom_id_json = {}, request_body = {};  // empty: unknown
  std::string result = {};                             // the line of the output or error file
};

struct FoundLines {
  std::vector<FoundLine> lines;
  std::uint32_t end = 0;  // all before it was looked through
  bool has_more = false;
};

Result<Query> read_query(const Request& request) {
  Query query;
  const auto limit = limit_param(request, 20, 100);
  if (!limit) return limit.error();
  query.limit = static_cast<std::size_t>(*limit);
  query.custom_id = query_param(request.query, "custom_id").value_or("");
  const std::string status = query_param(request.query, "status").value_or("all");
  for (const auto one : {LineStatus::pending, LineStatus::completed, LineStatus::failed}) {
    if (status == to_string(one)) query.status = one;
  }
  if (!query.status && status != "all") {
    return invalid_request("Invalid 'status': must be 'all', 'completed', 'failed' or 'pending'.", "status");
  }
  if (const auto after = query_param(request.query, "after")) {
    std::uint32_t index = 0;
    const auto [end, error] = std::from_chars(after->data(), after->data() + after->size(), index);
    if (error != std::errc{} || end != after->data() + after->size() || index == 0xFFFF'FFFF) {
      return invalid_request("Invalid 'after': expected the index of a line.", "after");
    }
    query.from = index + 1;
  }
  return query;
}

std::string body_or_null(std::string_view body, bool& truncated) {
  truncated |= body.size() > kBodyMax;
  return body.empty() || body.size() > kBodyMax ? "null" : std::string(body);
}

std::string to_json(const FoundLine& line, const std::string& endpoint) {
  bool truncated = false;
  std::string request = "null", response = "null", error = "null", custom_id = line.custom_id_json;
  if (!line.request_body.empty()) {
    request = fmt::format(R"({{"method":"POST","url":{},"body":{}}})", wire::quoted(endpoint),
                          body_or_null(line.request_body, truncated));
  }
  if (const auto parts = cut_output_line(line.result)) {
    custom_id = parts->custom_id_json;
    if (parts->status == 0) {
      error = parts->error;
    } else {
      response = fmt::format(R"({{"status_code":{},"request_id":{},"body":{}}})", parts->status, parts->request_id_json,
                             body_or_null(parts->body, truncated));
    }
  }
  return fmt::format(
      R"({{"object":"batch.line","index":{},"custom_id":{},"status":"{}","request":{},"response":{},"error":{}{}}})",
      line.index, custom_id, to_string(line.status), request, response, error, truncated ? R"(,"truncated":true)" : "");
}

// Of a batch that has ended: what its files hold. Blocks.
FoundLines find_in_files(const BlobStore& blobs, const Batch& batch, const Query& query) {
  FoundLines found;
  struct Source {
    ResultLines lines;
    LineStatus status;
  };
  std::vector<Source> sources;
  sources.reserve(2);  // they do not move
  const auto add = [&](const std::optional<FileId>& file, LineStatus status) {
    if (!file || (query.status && query.status != status)) return;
    auto reader = blobs.open(file->value);
    if (!reader) return;  // it was deleted
    sources.push_back({ResultLines(std::move(reader)), status});
    sources.back().lines.seek(query.from);
  };
  add(batch.output_file_id, LineStatus::completed);
  add(batch.error_file_id, LineStatus::failed);
  std::size_t looked_through = 0;
  while (true) {
    Source* first = nullptr;
    for (Source& source : sources) {
      if (source.lines.index() && (!first || *source.lines.index() < *first->lines.index())) first = &source;
    }
    if (!first) return found;
    if (found.lines.size() == query.limit || looked_through > kResultsLookedThrough) {
      found.has_more = true;
      return found;
    }
    const std::string_view line = first->lines.line();
    const auto parts = cut_output_line(line);
    if (parts && custom_id_of(parts->custom_id_json).find(query.custom_id) != std::string::npos) {
      found.lines.push_back({.index = *first->lines.index(), .status = first->status, .result = std::string(line)});
    }
    looked_through += line.size();
    found.end = *first->lines.index() + 1;
    first->lines.next();
  }
}

// The states of all lines, by index.
Task<std::vector<LineStatus>> states_of(Services& services, BatchId id, std::uint32_t total) {
  std::vector<LineStatus> states(total, LineStatus::pending);
  for (std::int64_t seq = 0, count = kGroupsAtOnce; count == kGroupsAtOnce;) {
    const auto groups =
        co_await services.db.read([&](Store& store) { return SavedGroups(store).behind(id, seq, kGroupsAtOnce); });
    count = static_cast<std::int64_t>(groups.size());
    for (const SavedGroup& group : groups) {
      seq = group.seq;
      for (const ResultEntry& entry : group.entries) {
        if (entry.index < total) states[entry.index] = entry.failed ? LineStatus::failed : LineStatus::completed;
      }
    }
  }
  co_return states;
}

// Of a batch that goes on.
Task<FoundLines> find_in_groups(Services& services, Batch batch, Query query) {
  FoundLines found;
  auto requests =
      co_await blocking(services.io, [&] { return RequestLines::open(services.blobs, batch.input_file_id); });
  const std::uint32_t total = requests ? requests->size() : 0;
  if (query.from >= total) co_return found;
  std::vector<LineStatus> states;
  if (query.status) states = co_await states_of(services, batch.id, total);
  const auto is_wanted = [&](std::uint32_t index) { return states.empty() || states[index] == *query.status; };

  std::uint32_t end = query.from;
  std::map<std::uint32_t, RequestLines::Place> places;
  std::map<std::uint32_t, FoundLine> lines;
  co_await blocking(services.io, [&] {
    std::vector<std::uint32_t> indices;
    if (query.custom_id.empty()) {
      for (; end < total && indices.size() < query.limit; ++end) {
        if (is_wanted(end)) indices.push_back(end);
      }
      while (end < total && !is_wanted(end)) ++end;
    } else {
      indices = requests->search(end, query.custom_id, query.limit, is_wanted);
    }
    places = requests->places({indices.begin(), indices.end()});
    for (const auto& [index, place] : places) {
      const LineParts parts = requests->read(place.entry);
      lines[index] = {.index = index,
                      .status = LineStatus::pending,
                      .custom_id_json = std::string(parts.custom_id_json),
                      .request_body = std::string(parts.body)};
    }
  });

  // Each line is in a group of the span that has its place in the plan.
  std::set<std::int64_t> spans;
  for (const auto& [index, place] : places) spans.insert(place.position / span_lines(total));
  for (const std::int64_t span : spans) {
    const auto groups = co_await services.db.read([&](Store& store) {
      return SavedGroups(store).of_span({batch.id, span});
    });
    for (const SavedGroup& group : groups) {
      const bool has_some = std::any_of(group.entries.begin(), group.entries.end(),
                                        [&](const ResultEntry& entry) { return lines.contains(entry.index); });
      if (!has_some) continue;
      const std::string text =
          co_await services.db.read([&](Store& store) { return SavedGroups(store).lines(group.seq); });
      std::size_t at = 0;
      for (const ResultEntry& entry : group.entries) {
        const auto line = lines.find(entry.index);
        if (line != lines.end() && at + entry.length <= text.size()) {
          line->second.status = entry.failed ? LineStatus::failed : LineStatus::completed;
          line->second.result = text.substr(at, entry.length);
        }
        at += entry.length;
      }
    }
  }
  for (auto& [index, line] : lines) {
    if (!query.status || line.status == *query.status) found.lines.push_back(std::move(line));  // it may have changed
  }
  found.end = end;
  found.has_more = end < total;
  co_return found;
}

// Blocks.
void add_requests(const BlobStore& blobs, const FileId& input, FoundLines& found) {
  auto requests = RequestLines::open(blobs, input);
  if (!requests) return;
  std::set<std::uint32_t> indices;
  for (const FoundLine& line : found.lines) indices.insert(line.index);
  const auto places = requests->places(indices);
  for (FoundLine& line : found.lines) {
    if (const auto place = places.find(line.index); place != places.end()) {
      line.request_body = requests->read(place->second.entry).body;
    }
  }
}

}  // namespace

Task<Response> list_lines(Context& c) {
  const auto query = read_query(c.request);
  if (!query) co_return error_response(query.error());
  const auto batch =
      co_await c.services.db.read([&](Store& store) { return store.find_batch(c.caller.project, {c.id}); });
  if (!batch) co_return error_response(no_such_batch({c.id}));
  FoundLines found;
  if (is_terminal(batch->status)) {
    found = co_await blocking(c.services.io, [&] {
      FoundLines in_files = find_in_files(c.services.blobs, *batch, *query);
      add_requests(c.services.blobs, batch->input_file_id, in_files);
      return in_files;
    });
  } else {
    found = co_await find_in_groups(c.services, *batch, *query);
  }
  std::vector<std::string> items;
  co_await blocking(c.services.io, [&] {  // they can be large
    for (const FoundLine& line : found.lines) items.push_back(to_json(line, batch->endpoint));
  });
  const bool is_empty = found.lines.empty() && !found.has_more;
  co_return json_response(wire::list(items, found.lines.empty() ? "" : std::to_string(found.lines.front().index),
                                     is_empty || found.end == 0 ? "" : std::to_string(found.end - 1), found.has_more));
}

}  // namespace penstock
