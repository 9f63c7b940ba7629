#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace penstock {

// Takes the output of a program, line by line. At `size_max` it is renamed to PATH.1, in the place of the one before,
// and begun anew. What cannot be written is lost: that is no reason to fail.
class LogFile {
 public:
  explicit LogFile(std::string path, std::size_t size_max = 4 << 20) : path_(std::move(path)), size_max_(size_max) {}
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // `line` without its newline.
  void write(std::string_view line);

 private:
  std::string path_;
  std::size_t size_max_, size_ = 0;
  int fd_ = -1;
};

// A file name for what has this name, whatever is in it and however long it is: no two are the same.
std::string file_name_of(std::string_view name);

}  // namespace penstock
