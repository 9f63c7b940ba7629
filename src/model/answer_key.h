#pragma once
#include <memory>
#include <optional>
#include <string_view>

#include "model/line_parser.h"

namespace penstock {

// Tells which requests of an endpoint have the same answer. One thread; keep it, since its buffers are reused.
class AnswerKeys {
 public:
  AnswerKeys();
  ~AnswerKeys();

  // The same for bodies of the same bytes, other for others; nothing when an engine may answer the same body in many
  // ways: unless it is for embeddings, has a temperature of 0 or a seed. `body` was accepted by LineParser::check(),
  // and kLinePadding readable bytes follow it.
  std::optional<Hash128> key(std::string_view endpoint, std::string_view body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock
