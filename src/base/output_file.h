#pragma once
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>

namespace penstock {

// A file that a command writes for a person: whole under its name, or not there. It is written as `path.part` beside
// it, which goes with this object when it was not committed. Failing throws std::runtime_error, which names the file.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::string_view bytes);
  // Makes it durable and gives it its name, in the place of what had that.
  void commit();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path path_, part_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

}  // namespace penstock
