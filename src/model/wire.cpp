#include "model/wire.h"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace penstock::wire {
namespace {

namespace json = boost::json;

Error invalid(std::string message, std::string param, std::string code = "invalid_value") {
  return {.kind = Error::Kind::invalid_request,
          .message = std::move(message),
          .code = std::move(code),
          .param = std::move(param)};
}

std::string_view type_name(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "something else";
}

Error wrong_type(const std::string& param, std::string_view expected, const json::value& got) {
  return invalid(
      fmt::format("Invalid type for '{}': expected {}, but got {} instead.", param, expected, type_name(got)), param,
      "invalid_type");
}

// Null counts as absent.
const json::value* find(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

Result<std::string> required_string(const json::object& object, const char* name) {
  const json::value* value = find(object, name);
  if (!value) {
    return invalid(fmt::format("Missing required parameter: '{}'.", name), name, "missing_required_parameter");
  }
  if (!value->is_string()) return wrong_type(name, "a string", *value);
  return std::string(value->get_string());
}

std::size_t characters(std::string_view utf8) {
  std::size_t n = 0;
  for (const char c : utf8) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

Result<Metadata> read_metadata(const json::value& value) {
  if (!value.is_object()) return wrong_type("metadata", "an object", value);
  const json::object& object = value.get_object();
  if (object.size() > 16) {
    return invalid(
        fmt::format("Invalid 'metadata': too many properties. Expected at most 16, but got {}.", object.size()),
        "metadata", "object_above_max_properties");
  }
  Metadata metadata;
  for (const auto& [key, item] : object) {
    const std::string name = fmt::format("metadata.{}", std::string_view(key));
    if (!item.is_string()) return wrong_type(name, "a string", item);
    const std::string_view text = item.get_string();
    if (characters(key) > 64) {
      return invalid("Invalid 'metadata': a key is longer than 64 characters.", "metadata", "string_above_max_length");
    }
    if (characters(text) > 512) {
      return invalid(fmt::format("Invalid '{}': longer than 512 characters.", name), name, "string_above_max_length");
    }
    metadata.emplace_back(key, text);
  }
  return metadata;
}

Result<std::int64_t> read_expiry(const json::value& value) {
  const std::string name = "output_expires_after";
  if (!value.is_object()) return wrong_type(name, "an object", value);
  const json::value* anchor = find(value.get_object(), "anchor");
  if (!anchor || !anchor->is_string() || anchor->get_string() != "created_at") {
    return invalid(fmt::format("Invalid '{}': anchor must be 'created_at'.", name), name);
  }
  const json::value* seconds = find(value.get_object(), "seconds");
  if (!seconds || !seconds->is_int64() || seconds->get_int64() < kExpirySecondsMin ||
      seconds->get_int64() > kExpirySecondsMax) {
    return invalid(fmt::format("Invalid '{}': seconds must be an integer from {} to {}.", name, kExpirySecondsMin,
                               kExpirySecondsMax),
                   name);
  }
  return seconds->get_int64();
}

std::int64_t seconds(Timestamp t) {
  return std::chrono::floor<std::chrono::seconds>(t).time_since_epoch().count();
}

json::value optional_time(const std::optional<Timestamp>& t) {
  return t ? json::value(seconds(*t)) : json::value();
}

template <class Id>
json::value optional_id(const std::optional<Id>& id) {
  return id ? json::value(id->value) : json::value();
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
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = 64;
  const json::value root = json::parse(body, error, {}, options);
  if (error) return invalid("We could not parse the JSON body of your request.", "", "");
  if (!root.is_object()) return invalid("The body of your request must be a JSON object.", "", "");
  const json::object& object = root.get_object();

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
  if (const json::value* value = find(object, "output_expires_after")) {
    Result<std::int64_t> expiry = read_expiry(*value);
    if (!expiry) return expiry.error();
    batch.output_expires_after_seconds = *expiry;
  }
  return batch;
}

std::string to_json(const File& file) {
  return json::serialize(json::object{{"id", file.id.value},
                                      {"object", "file"},
                                      {"bytes", file.bytes},
                                      {"created_at", seconds(file.created_at)},
                                      {"expires_at", optional_time(file.expires_at)},
                                      {"filename", file.filename},
                                      {"purpose", file.purpose},
                                      {"status", "processed"},
                                      {"status_details", nullptr}});
}

std::string to_json(const Batch& b) {
  json::value errors;
  if (!b.errors.empty()) {
    errors = json::object{{"object", "list"}, {"data", errors_array(b.errors)}, {"total", b.error_total}};
  }
  return json::serialize(json::object{
      {"id", b.id.value},
      {"object", "batch"},
      {"endpoint", b.endpoint},
      {"model", b.model ? json::value(*b.model) : json::value()},
      {"errors", errors},
      {"input_file_id", b.input_file_id.value},
      {"completion_window", b.completion_window},
      {"status", to_string(b.status)},
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
      {"usage",
       {{"input_tokens", b.usage.input},
        {"input_tokens_details", {{"cached_tokens", b.usage.cached}}},
        {"output_tokens", b.usage.output},
        {"output_tokens_details", {{"reasoning_tokens", b.usage.reasoning}}},
        {"total_tokens", b.usage.input + b.usage.output}}},
      {"metadata", b.metadata ? json::value(metadata_object(*b.metadata)) : json::value()}});
}

std::string to_json(const Error& error) {
  const auto or_null = [](const std::string& s) { return s.empty() ? json::value() : json::value(s); };
  std::string_view type = "invalid_request_error";
  switch (error.kind) {
    case Error::Kind::queue_full:
      type = "rate_limit_error";
      break;
    case Error::Kind::no_space:
    case Error::Kind::unavailable:
      type = "server_error";
      break;
    default:
      break;
  }
  return json::serialize(json::object{{"error", json::object{{"message", error.message},
                                                             {"type", type},
                                                             {"param", or_null(error.param)},
                                                             {"code", or_null(error.code)}}}});
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
