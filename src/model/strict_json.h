#pragma once
#include <simdjson.h>

#include <string>
#include <string_view>

// Only for model/*.cpp: the one way in which JSON from outside is judged.
namespace penstock {

// Nesting deeper than this is refused.
constexpr std::size_t kJsonDepthMax = 128;

// A strict parse of one JSON value (RFC 8259): UTF-8, no lone surrogates, no control characters, nothing behind it.
// Numbers may have any size: what does not fit 64 bits is accepted as a number whose value nobody reads.
class StrictJson {
 public:
  // `text` must be followed by kLinePadding readable bytes. The element is valid until the next call. False when the
  // text is not JSON.
  bool parse(std::string_view text, simdjson::dom::element& out);

 private:
  simdjson::dom::parser parser_;
  std::size_t capacity_ = 0;
  std::string plain_;
};

}  // namespace penstock
