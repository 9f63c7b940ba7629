#include "model/line_mapping.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "model/wire.h"

namespace penstock {
namespace {

namespace ondemand = simdjson::ondemand;

bool is_index(std::string_view text) {
  return !text.empty() && text.size() <= 9 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         (text.size() == 1 || text.front() != '0');
}

// RFC 6901; nothing when the path is none.
std::optional<std::string> pointer_of(std::string_view path) {
  if (!path.starts_with('$')) return std::nullopt;
  path.remove_prefix(1);
  std::string pointer;
  while (!path.empty()) {
    pointer += '/';
    if (path.front() == '[') {
      const auto end = path.find(']');
      if (end == std::string_view::npos || !is_index(path.substr(1, end - 1))) return std::nullopt;
      pointer += path.substr(1, end - 1);
      path.remove_prefix(end + 1);
    } else if (path.front() == '.') {
      const auto end = std::min(path.find_first_of(".[]", 1), path.size());
      if (end == 1) return std::nullopt;
      for (const char c : path.substr(1, end - 1)) pointer += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
      path.remove_prefix(end);
    } else {
      return std::nullopt;
    }
  }
  return pointer;
}

// The bytes of the value there, or null.
std::string_view value_at(ondemand::document& line, std::string_view pointer) {
  ondemand::value value;
  ondemand::json_type type{};
  ondemand::object object;
  ondemand::array array;
  std::string_view bytes;
  if (line.at_pointer(pointer).get(value) || value.type().get(type)) return "null";
  if (type == ondemand::json_type::object) {
    if (value.get_object().get(object) || object.raw_json().get(bytes)) return "null";
  } else if (type == ondemand::json_type::array) {
    if (value.get_array().get(array) || array.raw_json().get(bytes)) return "null";
  } else {
    bytes = value.raw_json_token();
  }
  return bytes.substr(0, bytes.find_last_not_of(" \t\r\n") + 1);
}

}  // namespace

struct LineMapping::Parser {
  ondemand::parser parser;
  simdjson::padded_string line;
};

LineMapping::LineMapping() : parser_(std::make_unique<Parser>()) {}
LineMapping::~LineMapping() = default;
LineMapping::LineMapping(LineMapping&&) noexcept = default;
LineMapping& LineMapping::operator=(LineMapping&&) noexcept = default;

Result<LineMapping> LineMapping::make(const std::vector<Field>& fields) {
  LineMapping mapping;
  if (const auto added = mapping.add(fields, ""); !added) return added.error();
  return mapping;
}

Result<void> LineMapping::add(const std::vector<Field>& fields, const std::string& parent) {
  end_ += '{';
  bool first = true;
  for (const Field& field : fields) {
    const std::string name = parent.empty() ? field.name : fmt::format("{}.{}", parent, field.name);
    if (!std::exchange(first, false)) end_ += ',';
    end_ += wire::quoted(field.name) + ":";
    if (!field.fields.empty()) {
      if (const auto added = add(field.fields, name); !added) return added.error();
      continue;
    }
    auto pointer = pointer_of(field.path);
    if (!pointer) {
      return invalid_request(
          fmt::format("'{}' is no path such as $.response.body.choices[0].message.content", field.path), name);
    }
    pieces_.push_back({std::exchange(end_, {}), std::move(*pointer)});
  }
  end_ += '}';
  return {};
}

void LineMapping::append(std::string& out, std::string_view line) {
  parser_->line = simdjson::padded_string(line);
  ondemand::document document;
  const bool is_json = !parser_->parser.iterate(parser_->line).get(document);
  for (const Piece& piece : pieces_) {
    out += piece.text;
    if (!is_json) {
      out += "null";
    } else if (piece.pointer.empty()) {
      out += line;
    } else {
      out += value_at(document, piece.pointer);
    }
  }
  out += end_;
}

}  // namespace penstock
