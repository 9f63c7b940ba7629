#include "blob/scratch_file.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/disk.h"

namespace penstock {
namespace {

std::system_error failed(const std::string& doing) {
  return std::system_error(errno, std::generic_category(), doing);
}

}  // namespace

ScratchFile::ScratchFile(const std::string& directory)
    : fd_(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  if (fd_ < 0) throw failed("make a file in " + directory);
}

ScratchFile::~ScratchFile() {
  ::close(fd_);
}

void ScratchFile::write(std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw failed("write");
    offset += static_cast<std::size_t>(written);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void ScratchFile::read(std::uint64_t offset, std::size_t length, std::string& out) const {
  const std::size_t start = out.size();
  out.resize(start + length);
  std::size_t done = 0;
  while (done < length) {
    const ssize_t got = ::pread(fd_, out.data() + start + done, length - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      if (got == 0) errno = EIO;  // it was written
      const auto failure = failed("read");
      out.resize(start);
      throw failure;
    }
    done += static_cast<std::size_t>(got);
  }
}

void ScratchFile::drop(std::uint64_t offset, std::uint64_t length) {
  ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(length));
}

bool ScratchFile::may_grow() const {
  struct statvfs status;
  if (::fstatvfs(fd_, &status) != 0) throw failed("statvfs");
  const std::uint64_t size = status.f_frsize * std::uint64_t{status.f_blocks};
  return status.f_frsize * std::uint64_t{status.f_bavail} > 4 * disk_reserve(size);
}

}  // namespace penstock
