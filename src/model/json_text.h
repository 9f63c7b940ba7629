#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// JSON as a text whose parts keep the bytes in which they were written. It is judged as strictly as input files are.
namespace penstock {

bool is_utf8(std::string_view text);

// Whether it is one JSON value.
bool is_json(std::string_view text);

struct JsonMember {
  std::string name;
  std::string json;  // the value as it stands there
  std::string text;  // for a reader: the characters of a string, nothing for null, else the same as `json`
};
// The members of an object in their order; nothing when the text is not one JSON object.
std::optional<std::vector<JsonMember>> json_members(std::string_view text);

}  // namespace penstock
