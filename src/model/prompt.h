#pragma once
#include <simdjson.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

// Only for model/*.cpp: what a request puts in front of the model.
namespace penstock {

// A request's prompt, to be compared with others': the strings of the body's parts that make it, in the order in which
// they stand, and behind them its integers, for a prompt may be tokens. Keys, roles and types are left out: lines that
// differ in nothing else are rare, and what a chat template adds is the same in all.
class Prompt {
 public:
  void clear();
  void append(const simdjson::dom::element& part);
  void finish();  // nothing more is appended
  // Valid as long as the elements are, until the next call.
  std::span<const std::string_view> strings() const { return strings_; }

 private:
  std::vector<std::string_view> strings_;
  std::string numbers_;
};

}  // namespace penstock
