#pragma once
#include "api/handlers.h"
#include "net/multipart.h"

// What a file must be, whether it comes whole (files.cpp) or in parts (uploads.cpp).
namespace penstock {

// The parameters that said it, for errors to name.
struct NewFileParams {
  std::string filename, bytes;
};

// Why the file is not taken: its purpose, or for one of a batch its name and size. The purpose is always in `purpose`.
std::optional<Error> refuse(const NewFile& file, const Services::Limits& limits, const NewFileParams& params);

// The file as it is stored, with the expiry that was asked for or is usual for its purpose.
File make_file(const FileId& id, const NewFile& file, Timestamp created_at);

// Streams what is left of the reader's part into the blob. Throws HttpError 413 when the blob gets larger.
Task<> receive(MultipartReader& reader, BlobWriter& writer, std::uint64_t size_max, asio::thread_pool& io);

}  // namespace penstock
