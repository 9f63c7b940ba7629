#pragma once
#include <boost/json.hpp>
#include <string>

// What is read out of a server's answers. A newer server may say more or less than we know: what is not there, or of
// another kind, is empty or 0.
namespace penstock {

namespace json = boost::json;

std::string text(const json::object& object, std::string_view name);
std::int64_t whole(const json::object& object, std::string_view name);
double real(const json::object& object, std::string_view name);
bool truth(const json::object& object, std::string_view name);
const json::object& object(const json::object& object, std::string_view name);
const json::array& array(const json::object& object, std::string_view name);
// The objects of an array that is called `data`.
std::vector<json::object> items(const json::object& list);
// Strings of an array, as a list for people.
std::string joined(const json::object& object, std::string_view name);

}  // namespace penstock
