#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "base/async.h"

namespace penstock {

struct DiskRoom {
  std::uint64_t size = 0, free = 0;  // in bytes
};

// Of the file system that has the folder. It asks the kernel alone, and blocks only where that waits for a network.
DiskRoom disk_room(const std::string& folder);

// What must stay free for what cannot wait: saving the answers that are under way, and the rows and log pages by which
// files are deleted and batches cancelled. That need does not grow with the disk, so it is 64 MB; but of a small disk
// no more than a hundredth, or it could not be used at all.
std::uint64_t disk_reserve(std::uint64_t size);

// Looks once a second whether the reserve is left: no event tells of room. Once a second is often enough, since what is
// written meanwhile is bounded by what is under way, and that is what the reserve is for; but for uploads, which fail
// when they have used it up. Loop thread only; `pool` is where it looks.
class DiskWatch {
 public:
  // `look` is disk_room() of a folder. `on_change` is called with true when the reserve is broken into and with false
  // when it is whole again.
  DiskWatch(asio::io_context& loop, Clock& clock, asio::thread_pool& pool, std::function<DiskRoom()> look,
            std::function<void(bool low)> on_change);

  // Returns after the first look.
  Task<> start();
  Task<> stop();

 private:
  Task<> look_once();
  Task<> run();

  Clock& clock_;
  asio::thread_pool& pool_;
  const std::function<DiskRoom()> look_;
  const std::function<void(bool)> on_change_;
  bool low_ = false;
  TaskGroup tasks_;
};

}  // namespace penstock
