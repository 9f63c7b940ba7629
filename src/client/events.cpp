#include "client/events.h"

namespace penstock {

void EventParser::add(std::string_view piece) {
  for (std::size_t end; (end = piece.find('\n')) != std::string_view::npos; piece.remove_prefix(end + 1)) {
    line_ += piece.substr(0, end);
    if (line_.ends_with('\r')) line_.pop_back();
    take_line(line_);
    line_.clear();
  }
  line_ += piece;
}

void EventParser::reset() {
  line_.clear();
  event_.clear();
  data_.clear();
}

void EventParser::take_line(std::string_view line) {
  if (line.empty()) {
    if (!data_.empty()) take_(event_, data_);
    event_.clear();
    data_.clear();
    return;
  }
  const auto colon = std::min(line.find(':'), line.size());
  const std::string_view name = line.substr(0, colon);
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (name == "event") event_ = value;
  if (name != "data") return;
  if (!data_.empty()) data_ += '\n';
  data_ += value;
}

}  // namespace penstock
