#include "model/json_text.h"

#include "model/line_parser.h"
#include "model/strict_json.h"

namespace penstock {
namespace {

// With the readable bytes behind it that a parser wants.
std::string padded(std::string_view text) {
  std::string copy;
  copy.reserve(text.size() + kLinePadding);
  copy = text;
  return copy;
}

}  // namespace

bool is_utf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

bool is_json(std::string_view text) {
  simdjson::dom::element root;
  return StrictJson().parse(padded(text), root);
}

std::optional<std::vector<JsonMember>> json_members(std::string_view text) {
  const std::string copy = padded(text);
  StrictJson strict;
  simdjson::dom::element root;
  simdjson::dom::object values;
  if (!strict.parse(copy, root) || root.get(values)) return std::nullopt;
  // It was checked strictly, so the lazy parser, which knows the bytes of each value, is enough for those.
  simdjson::ondemand::parser lazy;
  simdjson::ondemand::document document =
      lazy.iterate(copy.data(), copy.size(), copy.size() + simdjson::SIMDJSON_PADDING);
  std::vector<JsonMember> members;
  auto field = values.begin();
  for (auto raw : document.get_object()) {
    JsonMember member{std::string(field.key()), {}, {}};
    simdjson::ondemand::value value = raw.value();
    member.json = std::string_view(simdjson::to_json_string(value));
    const simdjson::dom::element parsed = field.value();
    if (std::string_view characters; !parsed.get(characters)) {
      member.text = characters;
    } else if (!parsed.is_null()) {
      member.text = member.json;
    }
    members.push_back(std::move(member));
    ++field;
  }
  return members;
}

}  // namespace penstock
