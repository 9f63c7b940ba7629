#pragma once
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace penstock {

using BlockHash = std::uint64_t;  // of all tokens from the beginning of a sequence to the end of a block

// The KV cache of the mock engine: blocks that sequences share by what is in them, after vLLM's BlockPool. A block that
// nobody holds keeps its content until it is the one that was free for longest and somebody needs a block. One thread.
class BlockPool {
 public:
  using Block = std::uint32_t;

  explicit BlockPool(std::size_t blocks);

  std::size_t size() const { return entries_.size(); }
  std::size_t free() const { return free_.size(); }  // held by nobody; they may still be found
  bool is_free(Block block) const { return entries_[block].holders == 0; }

  // The blocks that hold the beginning of that chain. They may be free: hold them before anything is taken.
  std::vector<Block> find(std::span<const BlockHash> chain) const;
  void hold(Block block);
  // Takes the one that was free for longest, and forgets what was in it. Requires free() > 0.
  Block take();
  // From now on the block is found by that hash, unless another one is already.
  void cache(Block block, BlockHash hash);
  // One holder less. The last one makes it free: of several, the one released first is taken first.
  void release(Block block);

 private:
  struct Entry {
    int holders = 0;
    std::optional<BlockHash> hash;
    std::list<Block>::iterator place;  // in free_, while nobody holds it
  };

  std::vector<Entry> entries_;
  std::list<Block> free_;  // the next to be taken first
  std::unordered_map<BlockHash, Block> cached_;
};

}  // namespace penstock
