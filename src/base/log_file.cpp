#include "base/log_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <utility>

#include "base/hash.h"

namespace penstock {
namespace {

constexpr std::size_t kNameMax = 200;  // of the 255 bytes that file systems allow: endings follow

}  // namespace

LogFile::~LogFile() {
  if (fd_ >= 0) ::close(fd_);
}

void LogFile::write(std::string_view line) {
  if (fd_ >= 0 && size_ >= size_max_) {
    ::close(std::exchange(fd_, -1));
    std::rename(path_.c_str(), (path_ + ".1").c_str());
  }
  if (fd_ < 0) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat status {};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0) return;
    size_ = static_cast<std::size_t>(status.st_size);
  }
  std::string text(line);
  text += '\n';
  const ssize_t written = ::write(fd_, text.data(), text.size());
  if (written > 0) size_ += static_cast<std::size_t>(written);
}

std::string file_name_of(std::string_view name) {
  std::string out;
  for (const unsigned char c : name) {
    const bool plain = std::isalnum(c) || c == '-' || c == '_' || (c == '.' && !out.empty());
    out += plain ? std::string(1, static_cast<char>(c)) : fmt::format("%{:02X}", c);
  }
  if (out.size() > kNameMax) {
    StreamHash hash;
    hash.add(name);
    out.resize(kNameMax - 40);
    out += "%-" + hash.hex();  // as no short one has it
  }
  return out;
}

}  // namespace penstock
