#include "base/disk.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kLookEvery{1'000};
constexpr std::uint64_t kReserveMax = 64 << 20;

}  // namespace

DiskRoom disk_room(const std::string& folder) {
  struct statvfs status;
  if (::statvfs(folder.c_str(), &status) != 0) {
    throw std::system_error(errno, std::generic_category(), "statvfs " + folder);
  }
  return {.size = status.f_frsize * std::uint64_t{status.f_blocks},
          .free = status.f_frsize * std::uint64_t{status.f_bavail}};
}

std::uint64_t disk_reserve(std::uint64_t size) {
  return std::min(kReserveMax, size / 100);
}

DiskWatch::DiskWatch(asio::io_context& loop, Clock& clock, asio::thread_pool& pool, std::function<DiskRoom()> look,
                     std::function<void(bool low)> on_change)
    : clock_(clock), pool_(pool), look_(std::move(look)), on_change_(std::move(on_change)), tasks_(loop) {}

Task<> DiskWatch::start() {
  co_await look_once();
  tasks_.keep("watching the disk", clock_, [this] { return run(); });
}

Task<> DiskWatch::stop() {
  tasks_.cancel();
  co_await tasks_.join();
}

Task<> DiskWatch::look_once() {
  const DiskRoom room = co_await blocking(pool_, [this] { return look_(); });
  const std::uint64_t reserve = disk_reserve(room.size);
  const bool low = room.free < reserve;
  if (low == std::exchange(low_, low)) co_return;
  if (low) {
    log::warn("the disk is full but for {} KB, and {} KB are kept: no line is sent and nothing new is taken",
              room.free >> 10, reserve >> 10);
  } else {
    log::info("the disk has {} KB free again: going on", room.free >> 10);
  }
  on_change_(low);
}

Task<> DiskWatch::run() {
  while (true) {
    co_await sleep_until(clock_, clock_.monotonic() + kLookEvery);
    co_await look_once();
  }
}

}  // namespace penstock
