#include "base/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace penstock {
namespace {

[[noreturn]] void fail(const std::string& doing) {
  throw std::system_error(errno, std::generic_category(), doing);
}

}  // namespace

void make_directory(const std::filesystem::path& path) {
  auto whole = std::filesystem::absolute(path);
  if (!whole.has_filename()) whole = whole.parent_path();  // "data/"
  const auto parent = whole.parent_path();
  bool made = ::mkdir(whole.c_str(), 0700) == 0;
  if (!made && errno == ENOENT) {
    make_directory(parent);
    made = ::mkdir(whole.c_str(), 0700) == 0;
  }
  if (!made && errno == EEXIST) return;
  if (!made) fail("mkdir " + whole.string());
  const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("open " + parent.string());
  const int synced = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  errno = reason;
  if (synced != 0) fail("fsync " + parent.string());
}

}  // namespace penstock
