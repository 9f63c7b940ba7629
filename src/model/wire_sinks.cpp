#include "model/wire_sinks.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/json_fields.h"

namespace penstock::wire {

Result<std::vector<NewSink>> read_sinks(const json::value& value) {
  if (!value.is_array()) return wrong_type("sinks", "an array", value);
  const json::array& array = value.get_array();
  if (array.size() > kSinksMax) {
    return invalid_request(fmt::format("Invalid 'sinks': expected at most {}, but got {}.", kSinksMax, array.size()),
                           "sinks", "array_above_max_length");
  }
  std::vector<NewSink> sinks;
  for (std::size_t i = 0; i < array.size(); ++i) {
    const std::string param = fmt::format("sinks[{}]", i);
    NewSink sink;
    if (array[i].is_string()) {
      sink.name = array[i].get_string();
    } else if (array[i].is_object()) {
      const json::value* url = find(array[i].get_object(), "url");
      if (!url || !url->is_string() || url->get_string().empty()) {
        return invalid_request(fmt::format("Invalid '{}': expected a url.", param), param);
      }
      sink.url = url->get_string();
    } else {
      return wrong_type(param, "the name of a sink or an object with a url", array[i]);
    }
    const bool known = std::any_of(sinks.begin(), sinks.end(), [&](const NewSink& other) {
      return other.name == sink.name && other.url == sink.url;
    });
    if (known) return invalid_request(fmt::format("Invalid '{}': it is named twice.", param), param);
    sinks.push_back(std::move(sink));
  }
  return sinks;
}

std::string sinks_json(const std::vector<NewSink>& sinks) {
  json::array array;
  for (const NewSink& sink : sinks) {
    array.push_back(sink.url.empty() ? json::object{{"name", sink.name}} : json::object{{"url", sink.url}});
  }
  return json::serialize(array);
}

json::array shown_sinks(const std::string& sinks) {
  json::array shown = json::parse(sinks).as_array();
  for (json::value& sink : shown) {
    if (const json::value* name = sink.get_object().if_contains("name")) sink = json::value(*name);
  }
  return shown;
}

}  // namespace penstock::wire
