#include "client/json_view.h"

namespace penstock {

std::string text(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

double real(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_number() ? value->to_number<double>() : 0;
}

std::int64_t whole(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_int64() ? value->get_int64() : 0;
}

bool truth(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_bool() && value->get_bool();
}

const json::object& object(const json::object& object, std::string_view name) {
  static const json::object nothing;
  const json::value* value = object.if_contains(name);
  return value && value->is_object() ? value->get_object() : nothing;
}

const json::array& array(const json::object& object, std::string_view name) {
  static const json::array nothing;
  const json::value* value = object.if_contains(name);
  return value && value->is_array() ? value->get_array() : nothing;
}

std::vector<json::object> items(const json::object& list) {
  std::vector<json::object> all;
  for (const json::value& item : array(list, "data")) {
    if (item.is_object()) all.push_back(item.get_object());
  }
  return all;
}

std::string joined(const json::object& object, std::string_view name) {
  std::string all;
  for (const json::value& item : array(object, name)) {
    if (!item.is_string()) continue;
    if (!all.empty()) all += ", ";
    all += item.get_string();
  }
  return all;
}

}  // namespace penstock
