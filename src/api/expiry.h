#pragma once
#include "blob/blob_store.h"
#include "store/db.h"

namespace penstock {

// Removes what is left of a file, or of an ended upload, that the store has just removed or ended: no row names it any
// more. What cannot be removed since the storage is away is left to whoever next looks through the blobs. They block.
void remove_blob(BlobStore& blobs, const std::string& key);
void remove_file(BlobStore& blobs, const FileId& id);
void remove_parts(BlobStore& blobs, const std::vector<PartId>& parts);

// Removes files that have expired, ends uploads that were not completed in time, and removes the blobs of both; the
// audit log says so. Removes what is too old of that, too. Loop thread only; the referenced parts must outlive it.
class Expiry {
 public:
  Expiry(asio::io_context& loop, Clock& clock, Db& db, BlobStore& blobs, asio::thread_pool& io);

  // First what was late before.
  void start();
  // There is a new file or upload, just stored, or a batch has ended, which has files and reads its input no more.
  void notify() { changed_.notify(); }
  Task<> stop();

  // Called on the loop thread when rows were removed, whose content may still be found.
  std::function<void()> on_removed;

 private:
  Task<> run();
  Task<> purge_audit_log();

  Clock& clock_;
  Db& db_;
  BlobStore& blobs_;
  asio::thread_pool& io_;
  Event changed_;
  TaskGroup tasks_;
};

}  // namespace penstock
