#include "model/prompt.h"

namespace penstock {
namespace {

// What comes behind so many is of no use to a cache.
constexpr std::size_t kStringsMax = 16 << 10, kNumbersSizeMax = 1 << 20;

}  // namespace

void Prompt::clear() {
  strings_.clear();
  numbers_.clear();
}

void Prompt::append(const simdjson::dom::element& part) {
  using simdjson::dom::element_type;
  std::string_view text;
  simdjson::dom::object object;
  simdjson::dom::array array;
  std::int64_t number = 0;
  switch (part.type()) {
    case element_type::STRING:
      if (strings_.size() < kStringsMax && !part.get(text)) strings_.push_back(text);
      break;
    case element_type::OBJECT:
      if (part.get(object)) break;
      for (auto field = object.begin(), end = object.end(); field != end; ++field) {
        if (!field.key_equals("role") && !field.key_equals("type")) append(field.value());
      }
      break;
    case element_type::ARRAY:
      if (part.get(array)) break;
      for (const simdjson::dom::element element : array) append(element);
      break;
    case element_type::INT64:
      if (numbers_.size() < kNumbersSizeMax && !part.get(number)) {
        numbers_.append(reinterpret_cast<const char*>(&number), sizeof number);
      }
      break;
    default:
      break;
  }
}

void Prompt::finish() {
  if (!numbers_.empty()) strings_.emplace_back(numbers_);
}

}  // namespace penstock
