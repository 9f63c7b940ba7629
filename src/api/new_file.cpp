#include "api/new_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace penstock {
namespace {

constexpr std::array<std::string_view, 6> kPurposes = {"assistants", "batch",     "fine-tune",
                                                       "vision",     "user_data", "evals"};
constexpr std::int64_t kBatchFileExpiresAfterSeconds = 30 * 86'400;

}  // namespace

std::optional<Error> refuse(const NewFile& file, const Services::Limits& limits, const NewFileParams& params) {
  if (std::find(kPurposes.begin(), kPurposes.end(), file.purpose) == kPurposes.end()) {
    return invalid_request(
        fmt::format("Invalid value: '{}'. Supported values are: '{}'.", file.purpose, fmt::join(kPurposes, "', '")),
        "purpose", "invalid_value");
  }
  if (file.purpose != "batch") return std::nullopt;
  if (!file.filename.ends_with(".jsonl")) {
    return invalid_request("Invalid file format for Batch API. Must be .jsonl", params.filename, "invalid_file_format");
  }
  if (file.bytes == 0) return invalid_request("The file is empty.", params.bytes, "empty_file");
  if (file.bytes > limits.batch_file_bytes_max) {
    return Error{.kind = Error::Kind::too_large,
                 .message = fmt::format("The file has {} bytes; an input file may have at most {}.", file.bytes,
                                        limits.batch_file_bytes_max),
                 .code = "file_too_large",
                 .param = params.bytes};
  }
  return std::nullopt;
}

File make_file(const FileId& id, const NewFile& file, Timestamp created_at) {
  std::optional<std::int64_t> expires_after = file.expires_after_seconds;
  if (!expires_after && file.purpose == "batch") expires_after = kBatchFileExpiresAfterSeconds;
  return {
      .id = id,
      .filename = file.filename,
      .purpose = file.purpose,
      .bytes = file.bytes,
      .created_at = created_at,
      .expires_at = expires_after ? std::optional(created_at + std::chrono::seconds(*expires_after)) : std::nullopt};
}

Task<> receive(MultipartReader& reader, BlobWriter& writer, std::uint64_t size_max, asio::thread_pool& io) {
  while (true) {
    const std::string_view bytes = co_await reader.read();
    if (bytes.empty()) co_return;
    if (writer.size() + bytes.size() > size_max) {
      throw HttpError(413, fmt::format("This is larger than {} bytes.", size_max));
    }
    co_await blocking(io, [&] { writer.write(bytes); });
  }
}

}  // namespace penstock
