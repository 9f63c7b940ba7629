#pragma once
#include <boost/json.hpp>
#include <string>

#include "base/error.h"
#include "model/types.h"

// What reads and writes of our JSON have in common. For the sources of wire alone.
namespace penstock::wire {

namespace json = boost::json;

// The object that a request's body is.
Result<json::object> read_object(std::string_view body);
// Null counts as absent.
const json::value* find(const json::object& object, std::string_view name);
Result<std::string> required_string(const json::object& object, const char* name);
Error missing(const char* name);
Error wrong_type(const std::string& param, std::string_view expected, const json::value& got);
// As opposed to bytes.
std::size_t characters(std::string_view utf8);
std::int64_t seconds(Timestamp t);
json::value optional_time(const std::optional<Timestamp>& t);

}  // namespace penstock::wire
