#include "block_pool.h"

#include <cassert>

namespace penstock {

BlockPool::BlockPool(std::size_t blocks) : entries_(blocks) {
  for (Block block = 0; block < blocks; ++block) entries_[block].place = free_.insert(free_.end(), block);
}

std::vector<BlockPool::Block> BlockPool::find(std::span<const BlockHash> chain) const {
  std::vector<Block> found;
  for (const BlockHash hash : chain) {
    const auto it = cached_.find(hash);
    if (it == cached_.end()) break;
    found.push_back(it->second);
  }
  return found;
}

void BlockPool::hold(Block block) {
  Entry& entry = entries_[block];
  if (entry.holders++ == 0) free_.erase(entry.place);
}

BlockPool::Block BlockPool::take() {
  assert(!free_.empty());
  const Block block = free_.front();
  hold(block);
  if (auto& hash = entries_[block].hash) {
    cached_.erase(*hash);
    hash.reset();
  }
  return block;
}

void BlockPool::cache(Block block, BlockHash hash) {
  if (cached_.try_emplace(hash, block).second) entries_[block].hash = hash;
}

void BlockPool::release(Block block) {
  Entry& entry = entries_[block];
  assert(entry.holders > 0);
  if (--entry.holders == 0) entry.place = free_.insert(free_.end(), block);
}

}  // namespace penstock
