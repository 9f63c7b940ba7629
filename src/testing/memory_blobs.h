#pragma once
#include <algorithm>
#include <map>
#include <system_error>

#include "blob/blob_store.h"

namespace penstock {

// A disk for blobs: it outlives the processes that use it.
using MemoryDisk = std::map<std::string, std::shared_ptr<const std::string>>;

// One process's blobs on it. They fail when a test says so. One thread.
class MemoryBlobs : public BlobStore {
 public:
  explicit MemoryBlobs(MemoryDisk& disk) : disk_(disk) {}

  mutable int calls_left = -1;  // before one finds the disk full; -1: none does
  mutable int failures = 1;     // so many calls do then, one after the other
  bool away = false;            // all calls find it so
  bool cut_off = false;         // nothing has an effect any more: the process is gone, and does not know

  std::unique_ptr<BlobWriter> create(const std::string& key) override {
    count();
    return std::make_unique<Writer>(*this, key);
  }
  std::unique_ptr<BlobReader> open(const std::string& key) const override {
    count();
    const auto found = disk_.find(key);
    if (found == disk_.end()) return nullptr;
    return std::make_unique<Reader>(found->second);
  }
  void remove(const std::string& key) override {
    count();
    if (!cut_off) disk_.erase(key);
  }
  // Nothing here is old, or half-written.
  std::vector<std::string> keys(Millis age_min = Millis{0}) const override {
    std::vector<std::string> all;
    for (const auto& [key, bytes] : disk_) {
      if (age_min == Millis{0} && key != kIdentityKey) all.push_back(key);
    }
    return all;
  }
  void abort_unfinished(Millis) override {}
  bool create_once(const std::string& key, std::string_view bytes) override {
    count();
    return !cut_off && disk_.try_emplace(key, std::make_shared<const std::string>(bytes)).second;
  }

 private:
  struct Writer : BlobWriter {
    Writer(MemoryBlobs& the_blobs, std::string the_key) : blobs(the_blobs), key(std::move(the_key)) {}
    void write(std::string_view more) override {
      blobs.count();
      bytes += more;
    }
    void commit() override {
      blobs.count();
      if (!blobs.cut_off) blobs.disk_[key] = std::make_shared<const std::string>(bytes);
    }
    std::uint64_t size() const override { return bytes.size(); }
    MemoryBlobs& blobs;
    const std::string key;
    std::string bytes;
  };
  struct Reader : BlobReader {
    explicit Reader(std::shared_ptr<const std::string> the_bytes) : bytes(std::move(the_bytes)) {}
    std::uint64_t size() const override { return bytes->size(); }
    void read_at(std::uint64_t offset, std::size_t length, std::string& out) const override {
      if (offset < bytes->size()) out.append(*bytes, offset, length);
    }
    const std::shared_ptr<const std::string> bytes;
  };

  void count() const {
    if (away) throw StorageAway("said the test");
    if (calls_left < 0) return;
    if (calls_left > 0) {
      --calls_left;
      return;
    }
    if (--failures <= 0) calls_left = -1;
    throw std::system_error(ENOSPC, std::generic_category(), "said the test");
  }

  MemoryDisk& disk_;
};

}  // namespace penstock
