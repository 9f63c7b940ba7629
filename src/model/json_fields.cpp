#include "model/json_fields.h"

#include <fmt/format.h>

namespace penstock::wire {
namespace {

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

}  // namespace

Error wrong_type(const std::string& param, std::string_view expected, const json::value& got) {
  return invalid_request(
      fmt::format("Invalid type for '{}': expected {}, but got {} instead.", param, expected, type_name(got)), param,
      "invalid_type");
}

const json::value* find(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

Error missing(const char* name) {
  return invalid_request(fmt::format("Missing required parameter: '{}'.", name), name, "missing_required_parameter");
}

Result<std::string> required_string(const json::object& object, const char* name) {
  const json::value* value = find(object, name);
  if (!value) return missing(name);
  if (!value->is_string()) return wrong_type(name, "a string", *value);
  return std::string(value->get_string());
}

std::size_t characters(std::string_view utf8) {
  std::size_t n = 0;
  for (const char c : utf8) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

Result<json::object> read_object(std::string_view body) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = 64;
  json::value root = json::parse(body, error, {}, options);
  if (error) return invalid_request("We could not parse the JSON body of your request.", "", "");
  if (!root.is_object()) return invalid_request("The body of your request must be a JSON object.", "", "");
  return std::move(root.get_object());
}

std::int64_t seconds(Timestamp t) {
  return std::chrono::floor<std::chrono::seconds>(t).time_since_epoch().count();
}

json::value optional_time(const std::optional<Timestamp>& t) {
  return t ? json::value(seconds(*t)) : json::value();
}

json::object usage_object(const Usage& usage) {
  return {{"input_tokens", usage.input},
          {"input_tokens_details", {{"cached_tokens", usage.cached}}},
          {"output_tokens", usage.output},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning}}},
          {"total_tokens", usage.input + usage.output}};
}

}  // namespace penstock::wire
