#include "api/new_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "api/expiry.h"
#include "batch/plan.h"
#include "model/wire.h"
#include "store/quota.h"

namespace penstock {
namespace {

constexpr std::array<std::string_view, 6> kPurposes = {"assistants", "batch",     "fine-tune",
                                                       "vision",     "user_data", "evals"};
constexpr std::uint64_t kFormBytesMax = 16 << 10;  // of a form, but for its file
constexpr std::int64_t kBatchFileExpiresAfterSeconds = 30 * 86'400;

// With the expiry that was asked for or is usual for its purpose.
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

}  // namespace

bool is_jsonl(std::string_view filename) {
  return filename.ends_with(".jsonl");
}

std::optional<Error> refuse(const NewFile& file, const Services::Limits& limits, const NewFileParams& params) {
  if (!wire::is_utf8(file.filename)) return invalid_request("The file's name is not UTF-8.", params.filename);
  if (std::find(kPurposes.begin(), kPurposes.end(), file.purpose) == kPurposes.end()) {
    return invalid_request(
        fmt::format("Invalid value: '{}'. Supported values are: '{}'.", file.purpose, fmt::join(kPurposes, "', '")),
        "purpose", "invalid_value");
  }
  if (file.purpose != "batch") return std::nullopt;
  if (!is_jsonl(file.filename)) {
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

FileReceiver::FileReceiver(const Services& services, ProjectId project, FileId id, bool may_be_input)
    : blobs_(services.blobs), project_(std::move(project)), id_(std::move(id)), writer_(blobs_.create(id_.value)) {
  if (may_be_input) {
    validator_.emplace(
        ValidationRules{.endpoint = "", .lines_max = services.limits.batch_lines_max, .models = std::nullopt});
  }
}

void FileReceiver::write(std::string_view bytes) {
  writer_->write(bytes);
  hash_.add(bytes);
  if (validator_) validator_->feed(bytes);
}

File FileReceiver::commit(const NewFile& file, Timestamp created_at) {
  File made = make_file(id_, file, created_at);
  made.project = project_;
  if (validator_ && file.purpose == "batch") {
    Validated checked = validator_->finish();
    if (checked.error_total == 0) {
      write_plan(blobs_, id_, checked.entries);
      made.checked = CheckedInput{std::move(checked.endpoint), std::move(checked.model),
                                  static_cast<std::int64_t>(checked.entries.size())};
    }
  }
  try {
    writer_->commit();
  } catch (...) {
    remove_blob(blobs_, plan_key(id_));
    throw;
  }
  return made;
}

Task<Result<void>> refuse_early(Context& c) {
  const std::string length(c.request.headers.find("content-length").value_or(""));
  std::uint64_t bytes = 0;
  std::from_chars(length.data(), length.data() + length.size(), bytes);
  if (bytes <= kFormBytesMax || c.request.headers.find("idempotency-key")) co_return Result<void>();
  co_return co_await c.services.db.read([&](Store& store) -> Result<void> {
    if (check_bytes(store, c.caller.project, bytes - kFormBytesMax)) return {};
    return check_bytes(store, c.caller.project, bytes);
  });
}

Task<> receive(MultipartReader& reader, std::uint64_t size_max, asio::thread_pool& io,
               std::function<void(std::string_view)> write) {
  std::uint64_t size = 0;
  while (true) {
    const std::string_view bytes = co_await reader.read();
    if (bytes.empty()) co_return;
    size += bytes.size();
    if (size > size_max) throw HttpError(413, fmt::format("This is larger than {} bytes.", size_max));
    co_await blocking(io, [&] { write(bytes); });
  }
}

}  // namespace penstock
