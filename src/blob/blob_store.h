#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace penstock {

// The storage cannot be reached, does not answer or lets us not in: what was asked may well work later. Its message has
// words for the operator.
class StorageAway : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Writes one blob. Nothing is visible before commit() returns; destroying an uncommitted writer removes what was
// written, and blocks no longer than a local disk does. One thread at a time. Functions block, and throw as BlobStore's
// do (ENOSPC when the disk is full).
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual void write(std::string_view bytes) = 0;
  // Durable and visible under the key when it returns; an older blob of that key is replaced.
  virtual void commit() = 0;
  virtual std::uint64_t size() const = 0;
};

// Reads one blob at any place. Safe from several threads. A blob that this process removes meanwhile stays readable.
// What other processes remove or anybody replaces stays readable on a local disk; in S3, reading it throws.
class BlobReader {
 public:
  virtual ~BlobReader() = default;
  virtual std::uint64_t size() const = 0;
  // Appends `length` bytes from `offset` to `out`; fewer only at the end of the blob.
  virtual void read_at(std::uint64_t offset, std::size_t length, std::string& out) const = 0;
};

// Where files live: bytes under a key that Penstock makes itself (letters, digits, '-', '_'). Safe from several
// threads, and outlives its writers. Several processes may use one: each sees what the others have committed. Functions
// block; they throw StorageAway when the storage is away, and std::system_error when it fails, but for what cannot be
// made durable: see base/sync.h.
class BlobStore {
 public:
  virtual ~BlobStore() = default;
  virtual std::unique_ptr<BlobWriter> create(const std::string& key) = 0;
  // Null when there is no such blob.
  virtual std::unique_ptr<BlobReader> open(const std::string& key) const = 0;
  // No error when it is gone already.
  virtual void remove(const std::string& key) = 0;
  // Those that were committed so long ago or longer, by the storage's own clock: what is younger may be the work of
  // another process, which has yet to write the row that names it. Without the blob of identity().
  virtual std::vector<std::string> keys(Millis age_min = Millis{0}) const = 0;
  // Removes what writers that came to no end have left, so long ago or longer.
  virtual void abort_unfinished(Millis age_min) = 0;
  // Commits a blob unless the key has one already: then false. Of several at once one succeeds.
  virtual bool create_once(const std::string& key, std::string_view bytes) = 0;
};

// The name that the store was given when it was first used: `first`, when that is now. Any process that asks hears the
// same, so a place is told from every other one. It is the blob kIdentityKey.
inline constexpr std::string_view kIdentityKey = "penstock-store";
std::string identity(BlobStore& blobs, const std::string& first);

// Files below `directory`, which is made when it is missing. Several processes may share it, also over a network.
std::unique_ptr<BlobStore> open_local_blobs(const std::string& directory);

// `address` is a folder or s3://bucket/prefix (see s3.h). What is on its way to or from S3 lies in unnamed files below
// `scratch_directory`. Throws UsageError, in words for the operator, when the address is wrong or blobs cannot be
// written there.
std::unique_ptr<BlobStore> open_blobs(const std::string& address, const std::string& scratch_directory);

// Of implementations: keys are ours, never paths. check_key() throws std::logic_error. What lies in a place besides is
// never touched: only what has a key of the kinds that Penstock makes is listed or removed by itself.
bool is_own_key(std::string_view key);
void check_key(std::string_view key);

}  // namespace penstock
