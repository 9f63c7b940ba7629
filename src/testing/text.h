#pragma once
#include <utility>

#include "net/http.h"

namespace penstock {

// The body of a request that is there as a whole.
class Text : public ByteSource {
 public:
  explicit Text(std::string text) : text_(std::move(text)) {}
  Task<std::string_view> next() override { co_return std::exchange(read_, true) ? std::string_view() : text_; }

 private:
  const std::string text_;
  bool read_ = false;
};

}  // namespace penstock
