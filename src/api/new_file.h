#pragma once
#include "api/handlers.h"
#include "base/hash.h"
#include "batch/validate.h"
#include "net/multipart.h"

// What a file must be, whether it comes whole (files.cpp) or in parts (uploads.cpp).
namespace penstock {

// The parameters that said it, for errors to name.
struct NewFileParams {
  std::string filename, bytes;
};

// Why the file is not taken: its purpose, a name that is not UTF-8, or for one of a batch its name and size. The
// purpose is always in `purpose`.
std::optional<Error> refuse(const NewFile& file, const Services::Limits& limits, const NewFileParams& params);

// A file on its way into a blob. One that may be the input of a batch is checked as its bytes come, and its plan is
// written beside it: when a batch names it, nothing is left to do. Functions block; one thread at a time.
class FileReceiver {
 public:
  FileReceiver(const Services& services, ProjectId project, FileId id, bool may_be_input);

  void write(std::string_view bytes);
  std::uint64_t size() const { return writer_->size(); }
  std::string hash() const { return hash_.hex(); }

  // The bytes are durable when it returns.
  File commit(const NewFile& file, Timestamp created_at);

 private:
  BlobStore& blobs_;
  ProjectId project_;
  FileId id_;
  std::unique_ptr<BlobWriter> writer_;
  StreamHash hash_;
  std::optional<Validator> validator_;
};

// Writes the rows of blobs that are durable already. When that fails and `known` does not find them, `remove` takes the
// blobs away; where nobody can tell, since a commit that nobody heard of may still be under way, a later start does.
// Throws what `write` threw.
template <class Write, class Known, class Remove>
auto store_rows(Db& db, asio::thread_pool& io, Write write, Known known, Remove remove)
    -> Task<std::invoke_result_t<Write&, Store&>> {
  std::exception_ptr failure;
  try {
    co_return co_await db.write(write);
  } catch (const sql::Failure& e) {
    if (e.kind() == sql::Failure::Kind::away) throw;
    failure = std::current_exception();
  } catch (...) {
    failure = std::current_exception();
  }
  const bool stored = co_await db.read(known);
  if (!stored) co_await blocking(io, remove);
  std::rethrow_exception(failure);
}

// Why the project has no room for what this form brings, from its length alone: before the body is read. One that is
// sent again with its Idempotency-Key may be there already.
Task<Result<void>> refuse_early(Context& c);

// Only a file that is called so may have the purpose "batch".
bool is_jsonl(std::string_view filename);

// Hands what is left of the reader's part to `write`, piece by piece on a thread of `io`. Throws HttpError 413 when it
// is more than `size_max` bytes.
Task<> receive(MultipartReader& reader, std::uint64_t size_max, asio::thread_pool& io,
               std::function<void(std::string_view)> write);

}  // namespace penstock
