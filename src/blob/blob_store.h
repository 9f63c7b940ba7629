#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

// Writes one blob. Nothing is visible before commit() returns; destroying an uncommitted writer removes what was
// written. One thread at a time. Functions block, and throw std::system_error (ENOSPC when the disk is full).
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual void write(std::string_view bytes) = 0;
  // Durable and visible under the key when it returns; an older blob of that key is replaced.
  virtual void commit() = 0;
  virtual std::uint64_t size() const = 0;
};

// Reads one blob at any place. Safe from several threads. A blob removed meanwhile stays readable.
class BlobReader {
 public:
  virtual ~BlobReader() = default;
  virtual std::uint64_t size() const = 0;
  // Appends `length` bytes from `offset` to `out`; fewer only at the end of the blob.
  virtual void read_at(std::uint64_t offset, std::size_t length, std::string& out) const = 0;
};

// Where files live: bytes under a key that Penstock makes itself (letters, digits, '-', '_'). Safe from several
// threads, and outlives its writers. Functions block; they throw std::system_error when the storage fails, but for what
// cannot be made durable: see base/sync.h.
class BlobStore {
 public:
  virtual ~BlobStore() = default;
  virtual std::unique_ptr<BlobWriter> create(const std::string& key) = 0;
  // Null when there is no such blob.
  virtual std::unique_ptr<BlobReader> open(const std::string& key) const = 0;
  // No error when it is gone already.
  virtual void remove(const std::string& key) = 0;
  virtual std::vector<std::string> keys() const = 0;
};

// Files below `directory`, which is made when it is missing. Half-written blobs of an earlier process are removed: the
// caller holds the data directory's lock.
std::unique_ptr<BlobStore> open_local_blobs(const std::string& directory);

}  // namespace penstock
