#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace penstock {

// Takes server-sent events apart, as they come in pieces. Of their fields it knows `event` and `data`; comments are
// left out.
class EventParser {
 public:
  using Take = std::function<void(std::string_view event, std::string_view data)>;
  explicit EventParser(Take take) : take_(std::move(take)) {}

  void add(std::string_view piece);
  // What came of an event that is not whole is forgotten: another stream begins.
  void reset();

 private:
  void take_line(std::string_view line);

  Take take_;
  std::string line_, event_, data_;
};

}  // namespace penstock
