#include "model/answer_stream.h"

#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <boost/json.hpp>
#include <set>

namespace penstock {
namespace {

namespace json = boost::json;

// Strings that come whole, and from some engines again with each chunk.
bool comes_whole(std::string_view key) {
  static const std::set<std::string_view> keys{"id", "type", "role", "name", "finish_reason", "stop_reason"};
  return keys.contains(key);
}

// The next line of `text`, which is taken from it; lines end in LF, CRLF or CR.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + (text.substr(end).starts_with("\r\n") ? 2 : 1), text.size()));
  return line;
}

// The data of the next event that has any, which is taken from `text` (WHATWG HTML section 9.2); empty at the end. The
// last event need not be followed by a blank line: what was cut off in the middle is no JSON.
std::string take_event(std::string_view& text) {
  std::string data;
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (line.empty() && !data.empty()) break;
    if (!line.starts_with("data:")) continue;
    line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
    if (!data.empty()) data += '\n';
    data += line;
  }
  return data;
}

// By way of simdjson, since Boost's parser may read a fraction as its neighbour.
json::value to_value(const simdjson::dom::element& element) {
  using Type = simdjson::dom::element_type;
  switch (element.type()) {
    case Type::ARRAY: {
      json::array out;
      for (const auto item : simdjson::dom::array(element)) out.push_back(to_value(item));
      return out;
    }
    case Type::OBJECT: {
      json::object out;
      for (const auto& [key, value] : simdjson::dom::object(element)) out[key] = to_value(value);
      return out;
    }
    case Type::INT64:
      return std::int64_t(element);
    case Type::UINT64:
      return std::uint64_t(element);
    case Type::DOUBLE:
      return double(element);
    case Type::STRING:
      return json::string(std::string_view(element));
    case Type::BOOL:
      return bool(element);
    case Type::NULL_VALUE:
      break;
  }
  return nullptr;
}

void add(json::value& whole, json::value&& piece, std::string_view key);

void add_members(json::object& whole, json::object&& piece) {
  for (auto& [key, value] : piece) add(whole[key], std::move(value), key);
}

// The element of which `piece` is a part: pieces of a call to a tool have its `index`.
json::value* find_part(json::array& list, const json::value& piece) {
  const auto index_of = [](const json::value& value) -> const json::value* {
    return value.is_object() ? value.get_object().if_contains("index") : nullptr;
  };
  const json::value* index = index_of(piece);
  if (!index) return nullptr;
  for (json::value& value : list) {
    if (const json::value* other = index_of(value); other && *other == *index) return &value;
  }
  return nullptr;
}

void add(json::value& whole, json::value&& piece, std::string_view key) {
  if (piece.is_null()) return;
  if (whole.is_object() && piece.is_object()) {
    add_members(whole.get_object(), std::move(piece.get_object()));
  } else if (whole.is_array() && piece.is_array()) {
    json::array& list = whole.get_array();
    for (json::value& value : piece.get_array()) {
      if (json::value* part = find_part(list, value)) {
        add(*part, std::move(value), {});
      } else {
        list.push_back(std::move(value));
      }
    }
  } else if (whole.is_string() && piece.is_string() && (piece.get_string().empty() || !comes_whole(key))) {
    whole.get_string().append(piece.get_string());
  } else {
    whole = std::move(piece);
  }
}

// A choice as it stands in an answer without a stream.
json::object finished_choice(json::object&& choice) {
  json::object out;
  for (auto& [key, value] : choice) out.emplace(key == "delta" ? json::string_view("message") : key, std::move(value));
  json::value* message = choice.contains("delta") ? out.if_contains("message") : nullptr;
  if (!message || !message->is_object()) return out;
  message->get_object().insert({{"role", "assistant"}, {"content", nullptr}});  // unless they are there
  if (json::value* calls = message->get_object().if_contains("tool_calls"); calls && calls->is_array()) {
    for (json::value& call : calls->get_array()) {
      if (call.is_object()) call.get_object().stable_erase("index");
    }
  }
  return out;
}

std::string finished(json::object&& answer) {
  json::array& choices = answer["choices"].get_array();
  const auto index_of = [](const json::value& choice) {
    const json::value* index = choice.is_object() ? choice.get_object().if_contains("index") : nullptr;
    return index && index->is_int64() ? index->get_int64() : 0;
  };
  std::stable_sort(choices.begin(), choices.end(),
                   [&](const json::value& a, const json::value& b) { return index_of(a) < index_of(b); });
  for (json::value& choice : choices) {
    if (choice.is_object()) choice = finished_choice(std::move(choice.get_object()));
  }
  if (json::value* object = answer.if_contains("object"); object && *object == "chat.completion.chunk") {
    *object = "chat.completion";
  }
  return json::serialize(answer);
}

StreamedAnswer failed(const json::object& event) {
  const json::value* error = event.if_contains("error");
  const json::value* code = error && error->is_object() ? error->get_object().if_contains("code") : nullptr;
  const bool told = code && code->is_int64() && code->get_int64() >= 400 && code->get_int64() <= 599;
  return {.status = told ? static_cast<int>(code->get_int64()) : 500, .body = json::serialize(event)};
}

// Whether an event says that the stream ends without an answer.
bool is_error(const json::object& event, std::string_view type) {
  const json::value* error = event.if_contains("error");
  return type == "error" || (error && !error->is_null());
}

// `object` with this member, in the place where it has one of that name, else in front.
std::string with_member(std::string_view object, std::string_view name, std::string_view value) {
  const simdjson::padded_string text(object);
  simdjson::ondemand::parser parser;
  auto document = parser.iterate(text);
  simdjson::ondemand::object members = document.get_object();
  for (auto member : members) {
    const std::string_view key = member.unescaped_key();
    simdjson::ondemand::value old_value = member.value();
    if (key != name) continue;
    const std::string_view old = simdjson::to_json_string(old_value);
    const auto at = static_cast<std::size_t>(old.data() - text.data());
    return std::string(object.substr(0, at)).append(value).append(object.substr(at + old.size()));
  }
  return fmt::format("{{\"{}\":{},{}", name, value, object.substr(1));
}

}  // namespace

bool can_stream(std::string_view endpoint) {
  return endpoint != "/v1/embeddings";
}

std::string asking_to_stream(std::string_view endpoint, std::string_view body) {
  const std::string streaming = with_member(body, "stream", "true");
  if (endpoint == "/v1/responses") return streaming;  // which always tells the usage, and has other options
  return with_member(streaming, "stream_options", R"({"include_usage":true})");
}

std::optional<StreamedAnswer> whole_answer(std::string_view events) {
  json::object whole{{"choices", json::array()}};
  bool begun = false;
  simdjson::dom::parser parser;
  for (std::string data = take_event(events); !data.empty(); data = take_event(events)) {
    if (data == "[DONE]") {
      if (!begun) return std::nullopt;
      return StreamedAnswer{.body = finished(std::move(whole))};
    }
    simdjson::dom::element element;
    if (parser.parse(data).get(element) || !element.is_object()) return std::nullopt;
    json::value value = to_value(element);
    json::object& event = value.get_object();
    const json::value* type_value = event.if_contains("type");
    const std::string_view type =
        type_value && type_value->is_string() ? std::string_view(type_value->get_string()) : "";
    if (is_error(event, type)) return failed(event);
    if (type == "response.completed" || type == "response.incomplete" || type == "response.failed") {
      return StreamedAnswer{.body = json::serialize(event["response"])};
    }
    for (auto& [key, piece] : event) {
      if (key == "choices" && piece.is_array()) {
        begun = true;
        for (json::value& choice : piece.get_array()) {
          if (choice.is_object()) choice.get_object().insert({{"index", 0}});  // where an engine leaves it out
        }
        add(whole[key], std::move(piece), key);
      } else if (key != "choices" && (!piece.is_null() || !whole.contains(key))) {
        whole[key] = std::move(piece);
      }
    }
  }
  return std::nullopt;
}

}  // namespace penstock
