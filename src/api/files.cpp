#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/new_file.h"
#include "model/wire.h"
#include "net/multipart.h"
#include "store/quota.h"

namespace penstock {
namespace {

constexpr std::size_t kFieldSizeMax = 4096;
constexpr std::size_t kReadSize = 256 << 10;

// What the form's parts have said so far.
struct Form {
  std::optional<std::string> purpose, filename, anchor, seconds;
  std::unique_ptr<FileReceiver> receiver;
};

// Nothing for what is not a number.
std::optional<std::int64_t> parse_integer(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<NewFile> describe(const Form& form, const Services::Limits& limits) {
  if (!form.receiver)
    return invalid_request("Missing required parameter: 'file'.", "file", "missing_required_parameter");
  if (!form.purpose)
    return invalid_request("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter");
  NewFile file{.filename = *form.filename,
               .purpose = *form.purpose,
               .bytes = form.receiver->size(),
               .expires_after_seconds = std::nullopt};
  if (form.anchor || form.seconds) {
    const auto expiry =
        wire::check_expiry("expires_after", form.anchor.value_or(""), parse_integer(form.seconds.value_or("")));
    if (!expiry) return expiry.error();
    file.expires_after_seconds = *expiry;
  }
  if (const auto error = refuse(file, limits, {.filename = "file", .bytes = "file"})) return *error;
  return file;
}

Task<std::string> read_field(MultipartReader& reader) {
  std::string value;
  while (true) {
    const std::string_view bytes = co_await reader.read();
    if (bytes.empty()) co_return value;
    value += bytes;
    if (value.size() > kFieldSizeMax) throw HttpError(400, "A form field of this upload is too long.");
  }
}

// A file's bytes as a response.
class BlobSource : public ByteSource {
 public:
  BlobSource(asio::thread_pool& io, std::unique_ptr<BlobReader> reader, std::uint64_t offset, std::uint64_t length)
      : io_(io), reader_(std::move(reader)), offset_(offset), end_(offset + length) {}

  Task<std::string_view> next() override {
    buffer_.clear();
    const std::size_t size = std::min<std::uint64_t>(kReadSize, end_ - offset_);
    if (size == 0) co_return std::string_view();
    co_await blocking(io_, [this, size] { reader_->read_at(offset_, size, buffer_); });
    if (buffer_.size() != size) throw std::runtime_error("a file is shorter than it was");
    offset_ += size;
    co_return buffer_;
  }

 private:
  asio::thread_pool& io_;
  std::unique_ptr<BlobReader> reader_;
  std::uint64_t offset_, end_;
  std::string buffer_;
};

Task<std::optional<File>> find(Context& c) {
  const Timestamp now = c.services.clock.now();
  co_return co_await c.services.db.read([&](Store& store) { return store.find_file(c.caller.project, {c.id}, now); });
}

}  // namespace

std::unique_ptr<ByteSource> whole_blob(asio::thread_pool& io, std::unique_ptr<BlobReader> reader) {
  const std::uint64_t size = reader->size();
  return std::make_unique<BlobSource>(io, std::move(reader), 0, size);
}

Task<Response> create_file(Context& c) {
  const auto room = co_await refuse_early(c);
  if (!room) co_return error_response(room.error());
  MultipartReader reader(c.request.headers.find("content-type").value_or(""), *c.request.body);
  const FileId id{random_id("file-")};
  Form form;
  while (auto part = co_await reader.next_part()) {
    if (part->name == "file") {
      if (form.receiver) throw HttpError(400, "The form has more than one part 'file'.");
      form.filename = part->filename.value_or("upload");
      const bool may_be_input = is_jsonl(*form.filename) && form.purpose.value_or("batch") == "batch";
      form.receiver = co_await blocking(c.services.io, [&] {
        return std::make_unique<FileReceiver>(c.services, c.caller.project, id, may_be_input);
      });
      co_await receive(reader, std::max(kFileBytesMax, c.services.limits.batch_file_bytes_max), c.services.io,
                       [&](std::string_view bytes) { form.receiver->write(bytes); });
    } else if (part->name == "purpose") {
      form.purpose = co_await read_field(reader);
    } else if (part->name == "expires_after[anchor]") {
      form.anchor = co_await read_field(reader);
    } else if (part->name == "expires_after[seconds]") {
      form.seconds = co_await read_field(reader);
    } else if (part->name.starts_with("expires_after")) {
      co_return error_response(
          invalid_request("Invalid 'expires_after': send the fields expires_after[anchor] and expires_after[seconds].",
                          "expires_after"));
    }
  }
  const Result<NewFile> described = describe(form, c.services.limits);
  if (!described) co_return error_response(described.error());
  const auto key = idempotency_key(c.caller.project, c.request,
                                   fmt::format("{} {} {} {}", form.receiver->hash(), described->purpose,
                                               described->expires_after_seconds.value_or(0), described->filename));
  if (!key) co_return error_response(key.error());
  const File file =
      co_await blocking(c.services.io, [&] { return form.receiver->commit(*described, c.services.clock.now()); });
  const auto insert = [&](Store& store) {
    return create_once<File>(
        store, *key, file.created_at,
        [&](const std::string& made) { return store.find_file(file.project, {made}, file.created_at); },
        [&]() -> Result<File> {
          if (const auto admitted = admit_bytes(store, file.project, file.bytes); !admitted) return admitted.error();
          store.insert_file(file);
          c.audit(store, "file.created", file.id.value);
          return file;
        });
  };
  const auto remove = [&] { remove_file(c.services.blobs, id); };
  const auto created = co_await store_rows(
      c.services.db, c.services.io, insert,
      [&](Store& store) { return store.find_file(file.project, id, file.created_at).has_value(); }, remove);
  if (!created || created->id != id) co_await blocking(c.services.io, remove);
  if (!created) co_return error_response(created.error());
  if (created->id == id) c.services.uploaded_bytes += static_cast<std::int64_t>(created->bytes);
  c.services.expiry.notify();
  co_return json_response(wire::to_json(*created));
}

Task<Response> list_files(Context& c) {
  FileQuery query;
  query.project = c.caller.project;
  const auto limit = limit_param(c.request, query.limit, query.limit);
  if (!limit) co_return error_response(limit.error());
  query.limit = *limit;
  const std::string order = query_param(c.request.query, "order").value_or("desc");
  if (order != "asc" && order != "desc") {
    co_return error_response(invalid_request("Invalid 'order': must be 'asc' or 'desc'.", "order"));
  }
  query.ascending = order == "asc";
  if (auto after = query_param(c.request.query, "after")) query.after = FileId{std::move(*after)};
  query.purpose = query_param(c.request.query, "purpose");

  const auto page =
      co_await c.services.db.read([&](Store& store) { return store.list_files(query, c.services.clock.now()); });
  if (!page) co_return error_response(page.error());
  std::vector<std::string> items;
  for (const File& file : page->items) items.push_back(wire::to_json(file));
  co_return json_response(wire::list(items, page->items.empty() ? "" : page->items.front().id.value,
                                     page->items.empty() ? "" : page->items.back().id.value, page->has_more));
}

Task<Response> get_file(Context& c) {
  const auto file = co_await find(c);
  if (!file) co_return error_response(no_such_file({c.id}));
  co_return json_response(wire::to_json(*file));
}

Task<Response> get_file_content(Context& c) {
  const auto file = co_await find(c);
  if (!file) co_return error_response(no_such_file({c.id}));
  auto reader = co_await blocking(c.services.io, [&] { return c.services.blobs.open(file->id.value); });
  if (!reader) co_return error_response(no_such_file({c.id}));

  Response response;
  response.headers.add("Content-Type", "application/octet-stream");
  response.headers.add("Accept-Ranges", "bytes");
  ByteRange range{.kind = ByteRange::Kind::ignore, .first = 0, .length = reader->size()};
  // RFC 9110: ranges are for GET alone, and an If-Range is never true, since our files have neither ETag nor date.
  const bool whole = c.request.method != "GET" || c.request.headers.find("if-range");
  if (const auto header = c.request.headers.find("range"); header && !whole) {
    const ByteRange asked = parse_range(*header, reader->size());
    if (asked.kind == ByteRange::Kind::unsatisfiable) {
      Response refused = json_response(
          wire::to_json(invalid_request(
              fmt::format("The file has {} bytes; none of them are in this range.", reader->size()), "range")),
          416);
      refused.headers.add("Content-Range", fmt::format("bytes */{}", reader->size()));
      co_return refused;
    }
    if (asked.kind == ByteRange::Kind::range) {
      range = asked;
      response.status = 206;
      response.headers.add("Content-Range",
                           fmt::format("bytes {}-{}/{}", range.first, range.first + range.length - 1, reader->size()));
    }
  }
  response.stream_size = range.length;
  response.stream = std::make_unique<BlobSource>(c.services.io, std::move(reader), range.first, range.length);
  co_return response;
}

Task<Response> delete_file(Context& c) {
  const FileId id{c.id};
  const auto deleted = co_await c.services.db.write([&](Store& store) {
    const auto done = store.delete_file(c.caller.project, id, c.services.clock.now());
    if (done) c.audit(store, "file.deleted", id.value);
    return done;
  });
  if (!deleted) co_return error_response(deleted.error());
  c.services.lifecycle.forget_deleted();
  co_await blocking(c.services.io, [&] { remove_file(c.services.blobs, id); });
  co_return json_response(wire::deleted_file(id));
}

}  // namespace penstock
