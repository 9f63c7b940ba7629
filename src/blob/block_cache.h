#pragma once
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blob/scratch_file.h"

namespace penstock {

// Blocks of blobs that are expensive to fetch, in one unnamed file that the kernel removes with this process. The block
// that was read longest ago makes room for a new one. A block that several want at once is fetched by one of them. Safe
// from several threads. Where the disk fails or is about to be full, it keeps less, and nobody is told.
class BlockCache {
 public:
  struct Id {
    std::string key, version;  // of the blob
    std::uint64_t number;      // of its block
    auto operator<=>(const Id&) const = default;
  };
  static constexpr std::size_t kBlockSize = 1 << 20;  // at most

  // The file is below `directory`. Throws std::system_error.
  BlockCache(const std::string& directory, std::uint64_t bytes_max);

  // Appends what the block has of `length` bytes from `offset`. Waits while somebody fetches it. False when it is not
  // here, and nobody does.
  bool read(const Id& id, std::size_t offset, std::size_t length, std::string& out);

  // True when the block is neither here nor fetched: the caller is to fetch it now, and to end that by put() or
  // give_up().
  bool claim(const Id& id);
  void put(const Id& id, std::string_view bytes);
  void give_up(const Id& id);

  // Drops the blocks of all versions, from the disk too, but for those that are being fetched or read just now.
  void forget(const std::string& key);

 private:
  struct Block {
    bool fetched = false;
    std::size_t slot = 0, size = 0;
    int readers = 0;                     // of its slot, just now
    std::list<Id>::iterator place = {};  // in used_, once it is fetched
  };
  using Blocks = std::map<Id, Block>;

  std::optional<std::size_t> take_slot();
  void drop(Blocks::iterator block);

  const std::size_t slots_max_;
  ScratchFile file_;
  std::mutex mutex_;
  // What follows is protected by it.
  std::condition_variable changed_;
  Blocks blocks_;
  std::list<Id> used_;  // what was read last is last
  std::vector<std::size_t> free_slots_;
  std::size_t slots_ = 0;  // that the file has
};

}  // namespace penstock
