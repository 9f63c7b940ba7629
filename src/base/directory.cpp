#include "base/directory.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "base/sync.h"

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
  sync_directory(parent.string());
}

}  // namespace penstock
