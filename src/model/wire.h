#pragma once
#include <string>

#include "base/error.h"
#include "model/delivery.h"
#include "model/wire_sinks.h"

// OpenAI's JSON to types and back (OpenAPI file 2.3.0; shapes of files, batches, lists and errors).
namespace penstock::wire {

// Who is to be told of the end of one batch.
struct NewWebhook {
  std::string url;
  std::optional<std::string> secret;
  std::vector<std::string> events;  // all, where none is named
};

// What POST /v1/batches may say.
struct NewBatch {
  FileId input_file_id;
  std::string endpoint, completion_window;
  std::optional<Metadata> metadata;
  std::optional<std::int64_t> output_expires_after_seconds;
  int priority = 0;  // at the top level, or else in metadata
  bool dedupe = false;
  std::optional<NewWebhook> webhook;
  std::vector<NewSink> sinks;
};

// Unknown fields are ignored, null counts as absent. The error names the parameter.
Result<NewBatch> parse_new_batch(std::string_view body);

// What POST /v1/batches/{id} may say.
Result<int> parse_priority(std::string_view body);

// What POST /v1/uploads may say. `bytes` is at least 1.
Result<NewFile> parse_new_upload(std::string_view body);

// What POST /v1/uploads/{id}/complete may say.
struct UploadCompletion {
  std::vector<PartId> part_ids;    // in the file's order; at least one
  std::optional<std::string> md5;  // of the file, in lower-case hexadecimal
};
Result<UploadCompletion> parse_upload_completion(std::string_view body);

// The range that expires_after and output_expires_after may have, in seconds.
constexpr std::int64_t kExpirySecondsMin = 3'600, kExpirySecondsMax = 2'592'000;
// The rule of both; `name` is the one that is meant. Returns the seconds.
Result<std::int64_t> check_expiry(const std::string& name, std::string_view anchor,
                                  std::optional<std::int64_t> seconds);

std::string to_json(const File& file);
// `file`: of one that is completed.
std::string to_json(const Upload& upload, const std::optional<File>& file = std::nullopt);
std::string to_json(const UploadPart& part);
// `place`: of one that has not ended, where that is known; `deliveries`: of its end.
std::string to_json(const Batch& batch, const std::optional<QueuePlace>& place = std::nullopt,
                    const std::vector<Delivery>& deliveries = {});
std::string to_json(const Error& error);
std::string deleted_file(const FileId& id);
std::string model(std::string_view id, Timestamp created);
// `items` are JSON already; the ids are those of the first and the last item.
std::string list(const std::vector<std::string>& items, std::string_view first_id, std::string_view last_id,
                 bool has_more);

// Whether somebody runs what is queued; `last_seen` is the newest sign of any worker.
struct WorkerState {
  bool online = false;
  std::optional<Timestamp> last_seen;
};
// The list of all batches that have not ended, with how many there may be (0: no limit) and who runs them.
std::string queue(const std::vector<std::string>& items, std::string_view first_id, std::string_view last_id,
                  std::int64_t depth_max, const WorkerState& worker);

bool is_utf8(std::string_view text);
// JSON text of a string, with its quotes.
std::string quoted(std::string_view text);

std::string metadata_json(const Metadata& metadata);
Metadata parse_metadata(std::string_view json);
std::string errors_json(const std::vector<LineError>& errors);
std::vector<LineError> parse_errors(std::string_view json);

}  // namespace penstock::wire
