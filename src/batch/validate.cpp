#include "batch/validate.h"

#include <fmt/core.h>

#include <algorithm>

namespace penstock {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kReadSize = 1 << 20;

LineError file_error(std::string code, std::string message, std::optional<std::string> param = std::nullopt) {
  return {.code = std::move(code), .message = std::move(message), .param = std::move(param), .line = std::nullopt};
}

// A name in a message: no more of it than a person reads, in whole characters.
std::string_view shown(std::string_view name) {
  constexpr std::size_t kShownMax = 256;
  std::size_t end = std::min(name.size(), kShownMax);
  while (end < name.size() && (name[end] & 0xC0) == 0x80) --end;
  return name.substr(0, end);
}

}  // namespace

Validator::Validator(ValidationRules rules) : rules_(std::move(rules)) {}

void Validator::fault(LineError error) {
  ++result_.error_total;
  if (result_.errors.size() < kErrorsKept) result_.errors.push_back(std::move(error));
}

void Validator::line(std::string_view text) {
  ++number_;
  const std::uint64_t at = offset_;
  offset_ += text.size() + 1;
  std::string_view content = text;
  std::uint64_t skipped = 0;
  if (number_ == 1 && content.starts_with(kByteOrderMark)) {
    content.remove_prefix(kByteOrderMark.size());
    skipped = kByteOrderMark.size();
  }
  if (content.find_first_not_of(" \t\r") == std::string_view::npos) return;

  ++requests_;
  if (rules_.lines_max > 0 && requests_ > rules_.lines_max) return;  // counted, and told once at the end
  if (rules_.endpoint.empty()) {
    const std::string_view url = parser_.url(content);
    if (endpoints().contains(url)) rules_.endpoint = url;
  }
  auto facts = parser_.check(content, rules_.endpoint);
  admit();
  if (!facts) {
    LineError error = facts.error();
    error.line = number_;
    return fault(std::move(error));
  }
  inputs_ += facts->inputs;
  seen_.prefetch(facts->custom_id_hash);
  order_.read(parser_.prompt());
  last_.custom_id_hash = facts->custom_id_hash;
  last_.custom_id = facts->custom_id;
  if (last_.model != facts->model) last_.model = facts->model;
  last_.number = number_;
  last_.offset = at + skipped;
  last_.length = static_cast<std::uint32_t>(content.size());
  waiting_ = true;
}

void Validator::admit() {
  if (!std::exchange(waiting_, false)) return;
  if (!seen_.insert(last_.custom_id_hash)) {
    return fault({.code = "duplicate_custom_id",
                  .message = fmt::format("The custom_id '{}' for this request is a duplicate of another request. The "
                                         "custom_id parameter must be unique for each request in a batch.",
                                         shown(last_.custom_id)),
                  .param = "custom_id",
                  .line = last_.number});
  }
  if (result_.model.empty()) {
    if (rules_.models && !rules_.models->contains(last_.model)) {
      return fault(
          {.code = "model_not_found",
           .message = fmt::format("The provided model '{}' is not supported by the Batch API.", shown(last_.model)),
           .param = "body.model",
           .line = last_.number});
    }
    result_.model = last_.model;
  } else if (last_.model != result_.model) {
    return fault({.code = "mismatched_model",
                  .message = fmt::format("The model '{}' for this request does not match the rest of the batch. Each "
                                         "batch must contain requests for a single model.",
                                         shown(last_.model)),
                  .param = "body.model",
                  .line = last_.number});
  }
  if (result_.error_total > 0) return;  // nothing will run, so no plan is needed
  order_.add({.offset = last_.offset, .length = last_.length, .index = order_.size()});
}

void Validator::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto end = bytes.find('\n');
    const bool whole = end != std::string_view::npos;
    const std::string_view part = bytes.substr(0, end);
    bytes.remove_prefix(whole ? end + 1 : bytes.size());
    if (oversized_) {
      offset_ += part.size() + (whole ? 1 : 0);
      oversized_ = !whole;
      continue;
    }
    // A line in the middle of `bytes` is read where it stands; one near its end, or cut by it, is copied first.
    if (whole && carry_.empty() && bytes.size() >= kLinePadding && part.size() <= kLineSizeMax) {
      line(part);
      continue;
    }
    if (carry_.size() + part.size() > kLineSizeMax) {
      ++number_, ++requests_;
      offset_ += carry_.size() + part.size() + (whole ? 1 : 0);
      carry_.clear();
      oversized_ = !whole;
      admit();
      fault({.code = "invalid_request",
             .message = fmt::format("This line is longer than {} bytes.", kLineSizeMax),
             .param = std::nullopt,
             .line = number_});
      continue;
    }
    carry_.reserve(carry_.size() + part.size() + kLinePadding);
    carry_ += part;
    if (whole) {
      line(carry_);
      carry_.clear();
    }
  }
}

Validated Validator::finish() {
  if (!carry_.empty()) {
    carry_.reserve(carry_.size() + kLinePadding);
    line(carry_);
  }
  admit();
  if (requests_ == 0 && result_.error_total == 0) {
    fault(file_error("empty_file",
                     "The input file is empty. Please ensure that the batch contains at least one request."));
  }
  if (rules_.lines_max > 0 && requests_ > rules_.lines_max) {
    fault(file_error("too_many_tasks", fmt::format("The input file has {} requests; a batch may have at most {}.",
                                                   requests_, rules_.lines_max)));
  } else if (rules_.lines_max > 0 && inputs_ > rules_.lines_max) {
    fault(file_error("too_many_tasks", fmt::format("The requests of the input file have {} inputs; a batch may have at "
                                                   "most {}.",
                                                   inputs_, rules_.lines_max)));
  }
  seen_ = {};  // its memory is as much as the making of the order takes
  if (result_.error_total == 0) result_.entries = order_.finish();
  result_.endpoint = std::move(rules_.endpoint);
  return std::move(result_);
}

Validated validate(const BlobReader& input, ValidationRules rules) {
  Validator validator(std::move(rules));
  std::string chunk;
  for (std::uint64_t at = 0; at < input.size(); at += kReadSize) {
    chunk.clear();
    input.read_at(at, kReadSize, chunk);
    validator.feed(chunk);
  }
  return validator.finish();
}

}  // namespace penstock
