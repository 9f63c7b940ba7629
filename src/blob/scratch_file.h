#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

// A file without a name, which goes with its object however the process ends. Safe from several threads, as long as
// nobody writes where another reads. Functions throw std::system_error.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& directory);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  void write(std::uint64_t offset, std::string_view bytes);
  // Appends so many bytes to `out`, or nothing when it throws.
  void read(std::uint64_t offset, std::size_t length, std::string& out) const;
  // Gives that room back to the disk, where the file system can.
  void drop(std::uint64_t offset, std::uint64_t length);
  // Whether the disk has several times the room that must stay free (base/disk.h).
  bool may_grow() const;

 private:
  const int fd_;
};

}  // namespace penstock
