#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <map>

#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/new_file.h"
#include "base/log.h"
#include "model/wire.h"
#include "store/quota.h"

namespace penstock {
namespace {

constexpr std::uint64_t kUploadBytesMax = 8ULL << 30;
constexpr std::uint64_t kPartBytesMax = 64 << 20;
constexpr std::chrono::hours kUploadExpiresAfter{1};
constexpr std::size_t kCopySize = 1 << 20;

// MD5 of a stream of bytes: what clients check a transfer with.
class Md5 {
 public:
  Md5() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_md5(), nullptr) == 1);
  }
  void add(std::string_view bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1); }
  // Ends the stream.
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned size = 0;
    check(EVP_DigestFinal_ex(context_.get(), bytes.data(), &size) == 1);
    return fmt::format("{:02x}", fmt::join(bytes.begin(), bytes.begin() + size, ""));
  }

 private:
  static void check(bool good) {
    if (!good) throw std::runtime_error("OpenSSL has no MD5");
  }

  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

// The parts that make the file, in its order. `had` are all that the upload has.
Result<std::vector<UploadPart>> choose(const Upload& upload, const std::vector<UploadPart>& had,
                                       const std::vector<PartId>& asked) {
  std::map<PartId, UploadPart> left;
  for (const UploadPart& part : had) left.emplace(part.id, part);
  std::vector<UploadPart> chosen;
  std::uint64_t bytes = 0;
  for (const PartId& id : asked) {
    const auto part = left.extract(id);
    if (!part) {
      return invalid_request(fmt::format("Invalid 'part_ids': {} is no part of upload {}, or stands there twice.",
                                         id.value, upload.id.value),
                             "part_ids");
    }
    bytes += part.mapped().bytes;
    chosen.push_back(part.mapped());
  }
  if (bytes != upload.file.bytes) {
    return invalid_request(
        fmt::format("The parts have {} bytes together, but the upload was created with {}.", bytes, upload.file.bytes),
        "part_ids");
  }
  return chosen;
}

// Gives the parts to `receiver`, and to `md5` unless that is null. False when one is gone: the upload has ended
// meanwhile.
Task<bool> join_parts(Services& services, const std::vector<UploadPart>& parts, FileReceiver& receiver, Md5* md5) {
  std::string buffer;
  for (const UploadPart& part : parts) {
    const auto reader = co_await blocking(services.io, [&] { return services.blobs.open(part.id.value); });
    if (!reader) co_return false;
    // Piece by piece, so that others get their turn on the pool.
    for (std::uint64_t offset = 0; offset < reader->size(); offset += kCopySize) {
      co_await blocking(services.io, [&] {
        buffer.clear();
        reader->read_at(offset, kCopySize, buffer);
        if (md5) md5->add(buffer);
        receiver.write(buffer);
      });
    }
  }
  co_return true;
}

Task<Result<Upload>> find_pending(Context& c) {
  const Timestamp now = c.services.clock.now();
  co_return co_await c.services.db.read(
      [&](Store& store) { return store.pending_upload(c.caller.project, {c.id}, now); });
}

}  // namespace

Task<Response> create_upload(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const Result<NewFile> file = wire::parse_new_upload(body);
  if (!file) co_return error_response(file.error());
  if (file->bytes > kUploadBytesMax) {
    co_return error_response(invalid_request(fmt::format("Invalid 'bytes': must be at most {}.", kUploadBytesMax),
                                             "bytes", "integer_above_max_value"));
  }
  if (const auto error = refuse(*file, c.services.limits, {.filename = "filename", .bytes = "bytes"})) {
    co_return error_response(*error);
  }
  Upload upload;
  upload.id = {random_id("upload_")};
  upload.project = c.caller.project;
  upload.file = *file;
  upload.created_at = c.services.clock.now();
  upload.expires_at = upload.created_at + kUploadExpiresAfter;
  const auto key = idempotency_key(c.caller.project, c.request, body);
  if (!key) co_return error_response(key.error());
  const auto created = co_await c.services.db.write([&](Store& store) {
    return create_once<Upload>(
        store, *key, upload.created_at,
        [&](const std::string& made) { return store.find_upload(upload.project, {made}, upload.created_at); },
        [&]() -> Result<Upload> {
          const auto room = check_bytes(store, upload.project, upload.file.bytes);
          if (!room) return room.error();
          store.insert_upload(upload);
          c.audit(store, "upload.created", upload.id.value);
          return upload;
        });
  });
  if (!created) co_return error_response(created.error());
  c.services.expiry.notify();
  co_return json_response(wire::to_json(*created));
}

Task<Response> create_part(Context& c) {
  const Result<Upload> upload = co_await find_pending(c);
  if (!upload) co_return error_response(upload.error());
  const auto room = co_await refuse_early(c);
  if (!room) co_return error_response(room.error());
  UploadPart part{.id = {random_id("part_")}, .upload_id = upload->id, .bytes = 0, .created_at = {}};
  std::unique_ptr<BlobWriter> writer;
  MultipartReader reader(c.request.headers.find("content-type").value_or(""), *c.request.body);
  while (auto field = co_await reader.next_part()) {
    if (field->name != "data") continue;
    if (writer) throw HttpError(400, "The form has more than one part 'data'.");
    writer = co_await blocking(c.services.io, [&] { return c.services.blobs.create(part.id.value); });
    co_await receive(reader, kPartBytesMax, c.services.io, [&](std::string_view bytes) { writer->write(bytes); });
  }
  if (!writer) {
    co_return error_response(
        invalid_request("Missing required parameter: 'data'.", "data", "missing_required_parameter"));
  }
  if (writer->size() == 0) co_return error_response(invalid_request("The part is empty.", "data"));
  part.bytes = writer->size();
  part.created_at = c.services.clock.now();
  co_await blocking(c.services.io, [&] { writer->commit(); });
  const auto remove = [&] { remove_blob(c.services.blobs, part.id.value); };
  const auto inserted = co_await store_rows(
      c.services.db, c.services.io,
      [&](Store& store) {
        auto added = admit_bytes(store, upload->project, part.bytes);
        if (added) added = store.insert_part(upload->project, part, c.services.clock.now());
        if (added) c.audit(store, "upload.part_created", upload->id.value);
        return added;
      },
      [&](Store& store) {
        const auto parts = store.upload_parts(part.upload_id);
        return std::any_of(parts.begin(), parts.end(), [&](const UploadPart& one) { return one.id == part.id; });
      },
      remove);
  if (!inserted) {  // it has ended while the part came, or other parts were quicker
    co_await blocking(c.services.io, remove);
    co_return error_response(inserted.error());
  }
  c.services.uploaded_bytes += static_cast<std::int64_t>(part.bytes);
  co_return json_response(wire::to_json(part));
}

Task<Response> complete_upload(Context& c) {
  const std::string body = co_await read_all(*c.request.body, kJsonBodyMax);
  const Result<Upload> upload = co_await find_pending(c);
  if (!upload) co_return error_response(upload.error());
  const Result<wire::UploadCompletion> asked = wire::parse_upload_completion(body);
  if (!asked) co_return error_response(asked.error());
  const auto had = co_await c.services.db.read([&](Store& store) { return store.upload_parts(upload->id); });
  const auto parts = choose(*upload, had, asked->part_ids);
  if (!parts) co_return error_response(parts.error());

  const FileId id{random_id("file-")};
  const auto receiver = co_await blocking(c.services.io, [&] {
    return std::make_unique<FileReceiver>(c.services, upload->project, id, upload->file.purpose == "batch");
  });
  std::optional<Md5> md5;
  if (asked->md5) md5.emplace();
  const bool whole = co_await join_parts(c.services, *parts, *receiver, md5 ? &*md5 : nullptr);
  if (!whole) {
    const Result<Upload> now = co_await find_pending(c);
    if (!now) co_return error_response(now.error());
    throw std::runtime_error(fmt::format("a part of upload {} is gone", upload->id.value));
  }
  if (md5) {
    const std::string got = md5->hex();
    if (got != *asked->md5) {
      co_return error_response(
          invalid_request(fmt::format("Invalid 'md5': the parts together have {}, not {}.", got, *asked->md5), "md5"));
    }
  }
  const File file =
      co_await blocking(c.services.io, [&] { return receiver->commit(upload->file, c.services.clock.now()); });
  const auto remove = [&] { remove_file(c.services.blobs, id); };
  // The parts had room, and the file is no larger.
  const auto ended = co_await store_rows(
      c.services.db, c.services.io,
      [&](Store& store) {
        auto done = store.complete_upload(upload->id, file, c.services.clock.now());
        if (!done) return done;
        c.audit(store, "upload.completed", upload->id.value);
        c.audit(store, "file.created", id.value);
        return done;
      },
      [&](Store& store) { return store.find_file(file.project, id, file.created_at).has_value(); }, remove);
  if (!ended) {  // another request was quicker
    co_await blocking(c.services.io, remove);
    co_return error_response(ended.error());
  }
  c.services.expiry.notify();
  co_await blocking(c.services.io, [&] { remove_parts(c.services.blobs, ended->parts); });
  log::info("upload {}: completed, {} bytes in {}", upload->id.value, file.bytes, id.value);
  co_return json_response(wire::to_json(ended->upload, file));
}

Task<Response> cancel_upload(Context& c) {
  const auto ended = co_await c.services.db.write([&](Store& store) {
    auto done = store.cancel_upload(c.caller.project, {c.id}, c.services.clock.now());
    if (done) c.audit(store, "upload.cancelled", c.id);
    return done;
  });
  if (!ended) co_return error_response(ended.error());
  co_await blocking(c.services.io, [&] { remove_parts(c.services.blobs, ended->parts); });
  co_return json_response(wire::to_json(ended->upload));
}

}  // namespace penstock
