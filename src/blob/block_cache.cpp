#include "blob/block_cache.h"

#include <algorithm>
#include <system_error>

namespace penstock {

BlockCache::BlockCache(const std::string& directory, std::uint64_t bytes_max)
    : slots_max_(bytes_max / kBlockSize), file_(directory) {}

bool BlockCache::read(const Id& id, std::size_t offset, std::size_t length, std::string& out) {
  std::unique_lock lock(mutex_);
  auto found = blocks_.find(id);
  while (found != blocks_.end() && !found->second.fetched) {
    changed_.wait(lock);
    found = blocks_.find(id);
  }
  if (found == blocks_.end()) return false;
  Block& block = found->second;
  used_.splice(used_.end(), used_, block.place);
  const std::size_t count = std::min(length, block.size - std::min(offset, block.size));
  const std::uint64_t at = block.slot * kBlockSize + offset;
  ++block.readers;
  lock.unlock();
  bool good = true;
  try {
    file_.read(at, count, out);
  } catch (const std::system_error&) {
    good = false;
  }
  lock.lock();
  --block.readers;
  if (!good && block.readers == 0) drop(found);
  return good;
}

bool BlockCache::claim(const Id& id) {
  const std::lock_guard lock(mutex_);
  return blocks_.try_emplace(id).second;
}

void BlockCache::put(const Id& id, std::string_view bytes) {
  std::unique_lock lock(mutex_);
  const auto slot = take_slot();
  bool good = slot.has_value();
  if (good) {
    lock.unlock();
    try {
      file_.write(*slot * kBlockSize, bytes);
    } catch (const std::system_error&) {
      good = false;
    }
    lock.lock();
    if (!good) free_slots_.push_back(*slot);
  }
  if (good) {
    used_.push_back(id);
    blocks_.at(id) = {.fetched = true, .slot = *slot, .size = bytes.size(), .place = std::prev(used_.end())};
  } else {
    blocks_.erase(id);
  }
  changed_.notify_all();
}

void BlockCache::give_up(const Id& id) {
  const std::lock_guard lock(mutex_);
  blocks_.erase(id);
  changed_.notify_all();
}

void BlockCache::forget(const std::string& key) {
  const std::lock_guard lock(mutex_);
  auto block = blocks_.lower_bound({key, "", 0});
  while (block != blocks_.end() && block->first.key == key) {
    const auto current = block++;
    if (current->second.fetched && current->second.readers == 0) drop(current);
  }
}

// Of a file that may not grow any further, that of the block that was read longest ago.
std::optional<std::size_t> BlockCache::take_slot() {
  if (free_slots_.empty() && slots_ < slots_max_ && file_.may_grow()) free_slots_.push_back(slots_++);
  if (free_slots_.empty()) {
    const auto oldest =
        std::find_if(used_.begin(), used_.end(), [&](const Id& id) { return blocks_.at(id).readers == 0; });
    if (oldest != used_.end()) drop(blocks_.find(*oldest));
  }
  if (free_slots_.empty()) return std::nullopt;
  const std::size_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void BlockCache::drop(Blocks::iterator block) {
  file_.drop(block->second.slot * kBlockSize, kBlockSize);
  free_slots_.push_back(block->second.slot);
  used_.erase(block->second.place);
  blocks_.erase(block);
}

}  // namespace penstock
