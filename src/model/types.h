#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"  // for what has an id

// The things that the whole tree talks about. Values: copied, compared, no behaviour beyond that.
namespace penstock {

// A name that cannot be mistaken for another kind's.
template <class Tag>
struct Id {
  std::string value;
  auto operator<=>(const Id&) const = default;
};
using FileId = Id<struct FileTag>;        // "file-…"
using BatchId = Id<struct BatchTag>;      // "batch_…"
using UploadId = Id<struct UploadTag>;    // "upload_…"
using PartId = Id<struct PartTag>;        // "part_…"
using ProjectId = Id<struct ProjectTag>;  // "proj_…"

// Whose is what comes without a key; it is always there.
inline const ProjectId kDefaultProject{"proj_default"};

// What the check of an input file found, where it found no fault.
struct CheckedInput {
  std::string endpoint, model;
  std::int64_t lines = 0;
  bool operator==(const CheckedInput&) const = default;
};

struct File {
  FileId id;
  std::string filename;
  std::string purpose;  // as in the API: "batch", "batch_output", …
  std::uint64_t bytes = 0;
  Timestamp created_at{};
  std::optional<Timestamp> expires_at;
  std::optional<CheckedInput> checked = std::nullopt;  // its plan is a blob beside it
  ProjectId project = kDefaultProject;
};

// What a client says of a file that it brings, whole or in parts.
struct NewFile {
  std::string filename;
  std::string purpose;
  std::uint64_t bytes = 0;
  std::optional<std::int64_t> expires_after_seconds;
  bool operator==(const NewFile&) const = default;
};

// The words on the wire and in the store: pending -> completed | cancelled | expired.
enum class UploadStatus { pending, completed, cancelled, expired };

std::string_view to_string(UploadStatus status);
// Throws std::invalid_argument for another word.
UploadStatus parse_upload_status(std::string_view word);

// A file that comes in parts. It takes them until it is completed, cancelled or expired.
struct Upload {
  UploadId id;
  NewFile file;  // bytes: of the parts that will make it, as declared
  UploadStatus status = UploadStatus::pending;
  Timestamp created_at{}, expires_at{};
  std::optional<FileId> file_id;  // once it is completed
  ProjectId project = kDefaultProject;
};

// Its bytes are the blob of that id.
struct UploadPart {
  PartId id;
  UploadId upload_id;
  std::uint64_t bytes = 0;
  Timestamp created_at{};
};

// The words on the wire, and in the store with one difference: see is_waiting().
//
//   validating -> in_progress -> finalizing -> completed
//   validating -> failed
//   validating | in_progress | finalizing -> cancelling -> cancelled
//   validating | in_progress | finalizing -> expired
enum class BatchStatus { validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled };

std::string_view to_string(BatchStatus status);
// Throws std::invalid_argument for another word.
BatchStatus parse_batch_status(std::string_view word);
constexpr bool is_terminal(BatchStatus s) {
  return s == BatchStatus::completed || s == BatchStatus::failed || s == BatchStatus::expired ||
         s == BatchStatus::cancelled;
}

struct Counts {
  std::int64_t total = 0, completed = 0, failed = 0;
  bool operator==(const Counts&) const = default;
};

// Tokens, summed over answers. cached is part of input, reasoning is part of output.
struct Usage {
  std::int64_t input = 0, cached = 0, output = 0, reasoning = 0;
  Usage& operator+=(const Usage& other);
  bool operator==(const Usage&) const = default;
};

// One fault of an input file.
struct LineError {
  std::string code, message;
  std::optional<std::string> param;
  std::optional<std::int64_t> line;  // physical, from 1
};

// How long a batch may take, by the name under which a client asks for it.
struct CompletionWindow {
  std::string name;  // "24h"
  std::chrono::seconds length{};
};

// Metadata as the client sent it, in its order.
using Metadata = std::vector<std::pair<std::string, std::string>>;

struct Batch {
  BatchId id;
  ProjectId project = kDefaultProject;
  FileId input_file_id;
  std::int64_t input_bytes = 0;   // 0 once the file is deleted
  std::string endpoint;           // "/v1/chat/completions", …
  std::string completion_window;  // "24h"
  std::optional<Metadata> metadata;
  std::optional<std::int64_t> output_expires_after_seconds;
  int priority = 0;                  // -1, 0 or 1; higher goes first
  bool dedupe = false;               // of lines that ask the same, one is sent and all take its answer
  std::optional<std::string> model;  // known after validation
  std::optional<BatchId> retry_of;   // whose good answers it takes over, to run the other lines again
  // Who is told of its end, and gets its results, as JSON: {"url", "secret", "events"} and an array of receivers as in
  // Delivery.
  std::optional<std::string> webhook, sinks;
  std::optional<std::string> traceparent;  // the span that it is a part of (W3C Trace Context)

  BatchStatus status = BatchStatus::validating;
  Counts counts;
  Usage usage;
  std::vector<LineError> errors;  // the first 100
  std::int64_t error_total = 0;   // all there were
  std::optional<FileId> output_file_id, error_file_id;
  std::optional<std::string> driver;   // the process that sees it to its end
  std::optional<Timestamp> paused_at;  // while it is unfinished: no line of it is sent

  Timestamp created_at{}, expires_at{};
  std::optional<Timestamp> in_progress_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at,
      cancelled_at;
};

// Nothing while it has not.
inline std::optional<Timestamp> ended_at(const Batch& batch) {
  for (const auto& end : {batch.completed_at, batch.failed_at, batch.expired_at, batch.cancelled_at}) {
    if (end) return end;
  }
  return std::nullopt;
}

// Valid, but none of its lines has been claimed yet. The store has it in_progress; people see it as `validating` until
// its turn comes.
inline bool is_waiting(const Batch& batch) {
  return batch.status == BatchStatus::in_progress && !batch.in_progress_at;
}

// Where a batch that has not ended stands in the queue.
struct QueuePlace {
  std::optional<std::int64_t> position;    // 1 is next; none once it has begun
  Timestamp start{}, completion{};         // estimates; the start of one that has begun is when it did
  std::optional<double> lines_per_second;  // while it runs, once that is known
};

// One entry of a plan: where a line stands in the input file, and which of the requests it is, counted from 0 in the
// file's order. Plans are arrays of these on disk, in dispatch order.
struct PlanEntry {
  std::uint64_t offset = 0;
  std::uint32_t length = 0;  // without the newline
  std::uint32_t index = 0;
};
static_assert(sizeof(PlanEntry) == 16);

// A run of consecutive plan entries: what a worker claims.
struct SpanKey {
  BatchId batch;
  std::int64_t number = 0;
  auto operator<=>(const SpanKey&) const = default;
};
constexpr std::uint32_t kSpanLines = 512;  // at most

// Entries of each span of a batch of so many lines, but for the last one: of a small batch less, so that several
// workers have each a part of it.
constexpr std::uint32_t span_lines(std::int64_t total) {
  std::uint32_t lines = 64;
  while (lines < kSpanLines && 512 * std::int64_t{lines} <= total) lines *= 2;
  return lines;
}

// A span in this worker's hands, until the token is replaced.
struct ClaimedSpan {
  SpanKey key;
  std::int64_t token = 0;   // fencing number of this claim
  std::uint32_t first = 0;  // plan entry
  std::uint32_t count = 0;
  std::int64_t finished = 0;  // lines that result groups already hold
  FileId input_file_id;
  std::string endpoint, model;
  bool dedupe = false;  // as in Batch
  ProjectId project = kDefaultProject;
  std::optional<std::string> traceparent = {};  // as in Batch
};

// One line's end, inside a result group.
struct ResultEntry {
  std::uint32_t index = 0;   // of the request, as in PlanEntry
  std::uint32_t length = 0;  // of its output line, newline included
  bool failed = false;       // goes to the error file
};

// Answers saved in one transaction with their span's progress.
struct ResultGroup {
  SpanKey span;
  std::int64_t token = 0;
  std::vector<ResultEntry> entries;
  std::string lines;  // the output lines, one behind the other in the order of `entries`
  Usage usage;
};

}  // namespace penstock
