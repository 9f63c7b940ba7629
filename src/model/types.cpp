#include "model/types.h"

#include <stdexcept>

namespace penstock {
namespace {
constexpr std::array<std::string_view, 8> kStatusWords = {"validating", "in_progress", "finalizing", "completed",
                                                          "failed",     "expired",     "cancelling", "cancelled"};
constexpr std::array<std::string_view, 4> kUploadWords = {"pending", "completed", "cancelled", "expired"};
}  // namespace

std::string_view to_string(BatchStatus status) {
  return kStatusWords.at(static_cast<std::size_t>(status));
}

BatchStatus parse_batch_status(std::string_view word) {
  for (std::size_t i = 0; i < kStatusWords.size(); ++i) {
    if (kStatusWords[i] == word) return static_cast<BatchStatus>(i);
  }
  throw std::invalid_argument("no such batch status: " + std::string(word));
}

std::string_view to_string(UploadStatus status) {
  return kUploadWords.at(static_cast<std::size_t>(status));
}

UploadStatus parse_upload_status(std::string_view word) {
  for (std::size_t i = 0; i < kUploadWords.size(); ++i) {
    if (kUploadWords[i] == word) return static_cast<UploadStatus>(i);
  }
  throw std::invalid_argument("no such upload status: " + std::string(word));
}

Usage& Usage::operator+=(const Usage& other) {
  input += other.input;
  cached += other.cached;
  output += other.output;
  reasoning += other.reasoning;
  return *this;
}

}  // namespace penstock
