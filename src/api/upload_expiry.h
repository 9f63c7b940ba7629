#pragma once
#include "blob/blob_store.h"
#include "store/db.h"

namespace penstock {

// Removes what was sent of an ended upload. Blocks.
void remove_parts(BlobStore& blobs, const std::vector<PartId>& parts);

// Ends uploads that were not completed in time, and removes what was sent of them. Loop thread only; the referenced
// parts must outlive it.
class UploadExpiry {
 public:
  UploadExpiry(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, asio::thread_pool& io);

  // First those that were late before.
  void start();
  // There is a new upload, just stored.
  void notify() { changed_.notify(); }
  Task<> stop();

 private:
  Task<> run();

  Clock& clock_;
  Db& db_;
  BlobStore& blobs_;
  asio::thread_pool& io_;
  Event changed_;
  TaskGroup tasks_;
};

}  // namespace penstock
