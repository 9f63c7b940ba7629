#include "blob/block_cache.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/disk.h"

namespace penstock {
namespace {

bool read_fully(int fd, std::size_t at, std::size_t length, char* out) {
  while (length > 0) {
    const ssize_t got = ::pread(fd, out, length, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got, at += static_cast<std::size_t>(got), length -= static_cast<std::size_t>(got);
  }
  return true;
}

bool write_fully(int fd, std::size_t at, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    at += static_cast<std::size_t>(done);
    bytes.remove_prefix(static_cast<std::size_t>(done));
  }
  return true;
}

}  // namespace

BlockCache::BlockCache(const std::string& directory, std::uint64_t bytes_max)
    : slots_max_(bytes_max / kBlockSize), fd_(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "make a file in " + directory);
}

BlockCache::~BlockCache() {
  ::close(fd_);
}

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
  const std::size_t start = out.size();
  const std::size_t count = std::min(length, block.size - std::min(offset, block.size));
  const std::size_t at = block.slot * kBlockSize + offset;
  ++block.readers;
  lock.unlock();
  out.resize(start + count);
  const bool good = read_fully(fd_, at, count, out.data() + start);
  lock.lock();
  --block.readers;
  if (good) return true;
  out.resize(start);
  if (block.readers == 0) drop(found);
  return false;
}

bool BlockCache::claim(const Id& id) {
  const std::lock_guard lock(mutex_);
  return blocks_.try_emplace(id).second;
}

void BlockCache::put(const Id& id, std::string_view bytes) {
  std::unique_lock lock(mutex_);
  std::size_t slot = 0;
  bool good = bytes.size() <= kBlockSize && take_slot(slot);
  if (good) {
    lock.unlock();
    good = write_fully(fd_, slot * kBlockSize, bytes);
    lock.lock();
    if (!good) free_slots_.push_back(slot);
  }
  if (good) {
    used_.push_back(id);
    blocks_.at(id) = {.fetched = true, .slot = slot, .size = bytes.size(), .place = std::prev(used_.end())};
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

// Whether there is one: of a file that may not grow any further, that of the block that was read longest ago.
bool BlockCache::take_slot(std::size_t& slot) {
  if (free_slots_.empty() && slots_ < slots_max_) {
    struct statvfs status;
    const bool known = ::fstatvfs(fd_, &status) == 0;
    const std::uint64_t size = status.f_frsize * std::uint64_t{status.f_blocks};
    const std::uint64_t free = status.f_frsize * std::uint64_t{status.f_bavail};
    if (known && free > 4 * disk_reserve(size)) free_slots_.push_back(slots_++);
  }
  if (free_slots_.empty()) {
    const auto oldest =
        std::find_if(used_.begin(), used_.end(), [&](const Id& id) { return blocks_.at(id).readers == 0; });
    if (oldest != used_.end()) drop(blocks_.find(*oldest));
  }
  if (free_slots_.empty()) return false;
  slot = free_slots_.back();
  free_slots_.pop_back();
  return true;
}

void BlockCache::drop(Blocks::iterator block) {
  ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(block->second.slot * kBlockSize),
              kBlockSize);
  free_slots_.push_back(block->second.slot);
  used_.erase(block->second.place);
  blocks_.erase(block);
}

}  // namespace penstock
