#include "base/sync.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/log.h"

namespace penstock {

void end_not_durable(std::string_view what) {
  log::error("storage failed, so nothing more can be promised; ending: {}", what);
  ::_exit(kExitNotDurable);
}

void sync_file(int fd) {
  if (::fdatasync(fd) == 0) return;
  const std::system_error error(errno, std::generic_category(), "fdatasync of a file");
  if (errno == ENOSPC || errno == EDQUOT) throw error;
  end_not_durable(error.what());
}

void sync_directory(int fd) {
  if (::fsync(fd) == 0) return;
  end_not_durable(std::system_error(errno, std::generic_category(), "fsync of a directory").what());
}

void sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "open " + path);
  sync_directory(fd);
  ::close(fd);
}

}  // namespace penstock
