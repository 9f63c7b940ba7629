#include "model/wire.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <simdjson.h>

#include "model/json_fields.h"
#include "model/wire_webhooks.h"

namespace penstock::wire {
namespace {

Result<Metadata> read_metadata(const json::value& value) {
  if (!value.is_object()) return wrong_type("metadata", "an object", value);
  const json::object& object = value.get_object();
  if (object.size() > 16) {
    return invalid_request(
        fmt::format("Invalid 'metadata': too many properties. Expected at most 16, but got {}.", object.size()),
        "metadata", "object_above_max_properties");
  }
  Metadata metadata;
  for (const auto& [key, item] : object) {
    const std::string name = fmt::format("metadata.{}", std::string_view(key));
    if (!item.is_string()) return wrong_type(name, "a string", item);
    const std::string_view text = item.get_string();
    if (characters(key) > 64) {
      return invalid_request("Invalid 'metadata': a key is longer than 64 characters.", "metadata",
                             "string_above_max_length");
    }
    if (characters(text) > 512) {
      return invalid_request(fmt::format("Invalid '{}': longer than 512 characters.", name), name,
                             "string_above_max_length");
    }
    metadata.emplace_back(key, text);
  }
  return metadata;
}

// Nothing when it is absent.
Result<std::optional<std::int64_t>> read_expiry(const json::object& object, const std::string& name) {
  const json::value* value = find(object, name);
  if (!value) return std::optional<std::int64_t>();
  if (!value->is_object()) return wrong_type(name, "an object", *value);
  const json::value* anchor = find(value->get_object(), "anchor");
  const json::value* seconds = find(value->get_object(), "seconds");
  const auto checked =
      check_expiry(name, anchor && anchor->is_string() ? std::string_view(anchor->get_string()) : std::string_view(),
                   seconds && seconds->is_int64() ? std::optional(seconds->get_int64()) : std::nullopt);
  if (!checked) return checked.error();
  return std::optional(*checked);
}

std::string iso_time(Timestamp t) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(t)));
}

// One of -1, 0 and 1.
Result<int> read_priority(const json::value& value, const std::string& name) {
  const json::value* number = &value;
  json::value parsed;
  if (value.is_string()) {  // metadata has strings only
    boost::system::error_code error;
    parsed = json::parse(value.get_string(), error);
    number = &parsed;
  }
  if (!number->is_int64() || number->get_int64() < -1 || number->get_int64() > 1) {
    return invalid_request(fmt::format("Invalid '{}': must be -1 (low), 0 (normal) or 1 (high).", name), name);
  }
  return static_cast<int>(number->get_int64());
}

template <class Id>
json::value optional_id(const std::optional<Id>& id) {
  return id ? json::value(id->value) : json::value();
}

// As exact as an estimate is.
json::value rounded(double number) {
  return json::parse(fmt::format("{:.3g}", number));
}

json::object file_object(const File& file) {
  return {{"id", file.id.value},
          {"object", "file"},
          {"bytes", file.bytes},
          {"created_at", seconds(file.created_at)},
          {"expires_at", optional_time(file.expires_at)},
          {"filename", file.filename},
          {"purpose", file.purpose},
          {"status", "processed"},
          {"status_details", nullptr}};
}

json::object metadata_object(const Metadata& metadata) {
  json::object object;
  for (const auto& [key, value] : metadata) object[key] = value;
  return object;
}

json::array errors_array(const std::vector<LineError>& errors) {
  json::array array;
  for (const LineError& e : errors) {
    array.push_back(json::object{{"code", e.code},
                                 {"message", e.message},
                                 {"param", e.param ? json::value(*e.param) : json::value()},
                                 {"line", e.line ? json::value(*e.line) : json::value()}});
  }
  return array;
}

}  // namespace

Result<NewBatch> parse_new_batch(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  const json::object& object = *root;

  NewBatch batch;
  for (const auto& [name, field] :
       {std::pair{"input_file_id", &batch.input_file_id.value}, std::pair{"endpoint", &batch.endpoint},
        std::pair{"completion_window", &batch.completion_window}}) {
    Result<std::string> text = required_string(object, name);
    if (!text) return text.error();
    *field = *text;
  }
  if (const json::value* value = find(object, "metadata")) {
    Result<Metadata> metadata = read_metadata(*value);
    if (!metadata) return metadata.error();
    batch.metadata = *metadata;
  }
  const json::value* priority = find(object, "priority");
  std::string priority_name = "priority";
  if (!priority && batch.metadata) {
    priority = find(object.at("metadata").get_object(), "priority");
    priority_name = "metadata.priority";
  }
  if (priority) {
    const Result<int> value = read_priority(*priority, priority_name);
    if (!value) return value.error();
    batch.priority = *value;
  }
  if (const json::value* value = find(object, "dedupe")) {
    if (!value->is_bool()) return wrong_type("dedupe", "a boolean", *value);
    batch.dedupe = value->get_bool();
  }
  if (const json::value* value = find(object, "webhook")) {
    auto webhook = read_webhook(*value);
    if (!webhook) return webhook.error();
    batch.webhook = std::move(*webhook);
  }
  if (const json::value* value = find(object, "sinks")) {
    auto sinks = read_sinks(*value);
    if (!sinks) return sinks.error();
    batch.sinks = std::move(*sinks);
  }
  const auto expiry = read_expiry(object, "output_expires_after");
  if (!expiry) return expiry.error();
  batch.output_expires_after_seconds = *expiry;
  return batch;
}

Result<int> parse_priority(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  const json::value* value = find(*root, "priority");
  if (!value) return missing("priority");
  return read_priority(*value, "priority");
}

Result<NewFile> parse_new_upload(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  NewFile file;
  std::string mime_type;  // must be said, and is nowhere shown
  for (const auto& [name, field] : {std::pair{"filename", &file.filename}, std::pair{"purpose", &file.purpose},
                                    std::pair{"mime_type", &mime_type}}) {
    Result<std::string> text = required_string(*root, name);
    if (!text) return text.error();
    *field = *text;
  }
  const json::value* bytes = find(*root, "bytes");
  if (!bytes) return missing("bytes");
  if (!bytes->is_int64() && !bytes->is_uint64()) return wrong_type("bytes", "an integer", *bytes);
  if (bytes->is_int64() && bytes->get_int64() < 1) {
    return invalid_request("Invalid 'bytes': must be at least 1.", "bytes", "integer_below_min_value");
  }
  file.bytes = bytes->to_number<std::uint64_t>();
  const auto expiry = read_expiry(*root, "expires_after");
  if (!expiry) return expiry.error();
  file.expires_after_seconds = *expiry;
  return file;
}

Result<UploadCompletion> parse_upload_completion(std::string_view body) {
  const Result<json::object> root = read_object(body);
  if (!root) return root.error();
  UploadCompletion completion;
  const json::value* part_ids = find(*root, "part_ids");
  if (!part_ids) return missing("part_ids");
  if (!part_ids->is_array()) return wrong_type("part_ids", "an array of strings", *part_ids);
  for (const json::value& id : part_ids->get_array()) {
    if (!id.is_string()) return wrong_type("part_ids", "an array of strings", id);
    completion.part_ids.push_back({std::string(id.get_string())});
  }
  if (completion.part_ids.empty()) return invalid_request("Invalid 'part_ids': it names no part.", "part_ids");
  if (const json::value* md5 = find(*root, "md5")) {
    if (!md5->is_string()) return wrong_type("md5", "a string", *md5);
    std::string& text = completion.md5.emplace(md5->get_string());
    for (char& c : text) c = c >= 'A' && c <= 'F' ? static_cast<char>(c + ('a' - 'A')) : c;
    if (text.size() != 32 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
      return invalid_request("Invalid 'md5': expected 32 hexadecimal digits.", "md5");
    }
  }
  return completion;
}

Result<std::int64_t> check_expiry(const std::string& name, std::string_view anchor,
                                  std::optional<std::int64_t> seconds) {
  if (anchor != "created_at")
    return invalid_request(fmt::format("Invalid '{}': anchor must be 'created_at'.", name), name);
  if (!seconds || *seconds < kExpirySecondsMin || *seconds > kExpirySecondsMax) {
    return invalid_request(fmt::format("Invalid '{}': seconds must be an integer from {} to {}.", name,
                                       kExpirySecondsMin, kExpirySecondsMax),
                           name);
  }
  return *seconds;
}

std::string to_json(const File& file) {
  return json::serialize(file_object(file));
}

std::string to_json(const Upload& upload, const std::optional<File>& file) {
  return json::serialize(json::object{{"id", upload.id.value},
                                      {"object", "upload"},
                                      {"bytes", upload.file.bytes},
                                      {"created_at", seconds(upload.created_at)},
                                      {"expires_at", seconds(upload.expires_at)},
                                      {"filename", upload.file.filename},
                                      {"purpose", upload.file.purpose},
                                      {"status", to_string(upload.status)},
                                      {"file", file ? json::value(file_object(*file)) : json::value()}});
}

std::string to_json(const UploadPart& part) {
  return json::serialize(json::object{{"id", part.id.value},
                                      {"object", "upload.part"},
                                      {"created_at", seconds(part.created_at)},
                                      {"upload_id", part.upload_id.value}});
}

std::string to_json(const Batch& b, const std::optional<QueuePlace>& place, const std::vector<Delivery>& deliveries) {
  json::value errors;
  if (!b.errors.empty()) {
    errors = json::object{{"object", "list"}, {"data", errors_array(b.errors)}, {"total", b.error_total}};
  }
  json::array brought;
  for (const Delivery& delivery : deliveries) brought.push_back(delivery_object(delivery));
  return json::serialize(json::object{
      {"id", b.id.value},
      {"object", "batch"},
      {"endpoint", b.endpoint},
      {"model", b.model ? json::value(*b.model) : json::value()},
      {"errors", errors},
      {"input_file_id", b.input_file_id.value},
      {"completion_window", b.completion_window},
      {"status", to_string(is_waiting(b) ? BatchStatus::validating : b.status)},
      {"priority", b.priority},
      {"dedupe", b.dedupe},
      {"retry_of", optional_id(b.retry_of)},
      {"paused_at", optional_time(b.paused_at)},
      {"queue_position", place && place->position ? json::value(*place->position) : json::value()},
      {"estimated_start_time", place ? json::value(iso_time(place->start)) : json::value()},
      {"estimated_completion_time", place ? json::value(iso_time(place->completion)) : json::value()},
      {"lines_per_second", place && place->lines_per_second ? rounded(*place->lines_per_second) : json::value()},
      {"output_file_id", optional_id(b.output_file_id)},
      {"error_file_id", optional_id(b.error_file_id)},
      {"created_at", seconds(b.created_at)},
      {"in_progress_at", optional_time(b.in_progress_at)},
      {"expires_at", seconds(b.expires_at)},
      {"finalizing_at", optional_time(b.finalizing_at)},
      {"completed_at", optional_time(b.completed_at)},
      {"failed_at", optional_time(b.failed_at)},
      {"expired_at", optional_time(b.expired_at)},
      {"cancelling_at", optional_time(b.cancelling_at)},
      {"cancelled_at", optional_time(b.cancelled_at)},
      {"request_counts", {{"total", b.counts.total}, {"completed", b.counts.completed}, {"failed", b.counts.failed}}},
      {"usage", usage_object(b.usage)},
      {"webhook", b.webhook ? shown_webhook(*b.webhook) : json::value()},
      {"sinks", b.sinks ? json::value(shown_sinks(*b.sinks)) : json::value()},
      {"deliveries", std::move(brought)},
      {"metadata", b.metadata ? json::value(metadata_object(*b.metadata)) : json::value()}});
}

std::string to_json(const Error& error) {
  const auto or_null = [](const std::string& s) { return s.empty() ? json::value() : json::value(s); };
  std::string_view type = "invalid_request_error";
  switch (error.kind) {
    case Error::Kind::queue_full:
    case Error::Kind::too_many_requests:
    case Error::Kind::quota_exceeded:
      type = "rate_limit_error";
      break;
    case Error::Kind::no_space:
    case Error::Kind::unavailable:
      type = "server_error";
      break;
    default:
      break;
  }
  // It may hold a client's words.
  std::string message = error.message;
  if (!is_utf8(message)) {
    for (char& c : message) c = static_cast<unsigned char>(c) < 0x80 ? c : '?';
  }
  return json::serialize(json::object{
      {"error",
       json::object{
           {"message", message}, {"type", type}, {"param", or_null(error.param)}, {"code", or_null(error.code)}}}});
}

std::string deleted_file(const FileId& id) {
  return json::serialize(json::object{{"id", id.value}, {"object", "file"}, {"deleted", true}});
}

std::string model(std::string_view id, Timestamp created) {
  return json::serialize(
      json::object{{"id", id}, {"object", "model"}, {"created", seconds(created)}, {"owned_by", "penstock"}});
}

std::string list(const std::vector<std::string>& items, std::string_view first_id, std::string_view last_id,
                 bool has_more) {
  const auto id = [](std::string_view text) { return text.empty() ? std::string("null") : quoted(text); };
  return fmt::format(R"({{"object":"list","data":[{}],"first_id":{},"last_id":{},"has_more":{}}})",
                     fmt::join(items, ","), id(first_id), id(last_id), has_more);
}

std::string queue(const std::vector<std::string>& items, std::string_view first_id, std::string_view last_id,
                  std::int64_t depth_max, const WorkerState& worker) {
  std::string text = list(items, first_id, last_id, false);
  text.pop_back();  // the closing brace: more keys follow
  return text + fmt::format(R"(,"depth":{},"max_depth":{},"worker":{}}})", items.size(),
                            depth_max > 0 ? std::to_string(depth_max) : "null",
                            json::serialize(json::object{{"status", worker.online ? "online" : "offline"},
                                                         {"last_seen_at", optional_time(worker.last_seen)}}));
}

bool is_utf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

std::string quoted(std::string_view text) {
  return json::serialize(json::string_view(text.data(), text.size()));
}

std::string metadata_json(const Metadata& metadata) {
  return json::serialize(metadata_object(metadata));
}

Metadata parse_metadata(std::string_view text) {
  Metadata metadata;
  const json::value root = json::parse(text);
  for (const auto& [key, value] : root.as_object()) metadata.emplace_back(key, value.as_string());
  return metadata;
}

std::string errors_json(const std::vector<LineError>& errors) {
  return json::serialize(errors_array(errors));
}

std::vector<LineError> parse_errors(std::string_view text) {
  std::vector<LineError> errors;
  const json::value root = json::parse(text);
  for (const json::value& item : root.as_array()) {
    const json::object& o = item.as_object();
    LineError e{.code = std::string(o.at("code").as_string()),
                .message = std::string(o.at("message").as_string()),
                .param = std::nullopt,
                .line = std::nullopt};
    if (const json::value* param = find(o, "param")) e.param = std::string(param->as_string());
    if (const json::value* line = find(o, "line")) e.line = line->to_number<std::int64_t>();
    errors.push_back(std::move(e));
  }
  return errors;
}

}  // namespace penstock::wire
