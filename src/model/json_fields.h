#pragma once
#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "model/types.h"

// What reading and writing OpenAI's JSON has in common. Errors are OpenAI's, and name the parameter.
namespace penstock::wire {

namespace json = boost::json;

// The body of a request.
Result<json::object> read_object(std::string_view body);
// Null counts as absent.
const json::value* find(const json::object& object, std::string_view name);
Result<std::string> required_string(const json::object& object, const char* name);
Error missing(const char* name);
Error wrong_type(const std::string& param, std::string_view expected, const json::value& got);
std::size_t characters(std::string_view utf8);

std::int64_t seconds(Timestamp time);
json::value optional_time(const std::optional<Timestamp>& time);
json::object usage_object(const Usage& usage);

}  // namespace penstock::wire
