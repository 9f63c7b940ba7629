#include "base/output_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "base/sync.h"

namespace penstock {
namespace {

// A pipe or a device would be replaced by a file.
std::filesystem::path replaceable(std::filesystem::path path) {
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path)) {
    throw std::runtime_error(fmt::format("cannot write {}: it is no plain file", path.string()));
  }
  return path;
}

}  // namespace

OutputFile::OutputFile(std::filesystem::path path)
    : path_(replaceable(std::move(path))),
      part_(path_.string() + ".part"),
      file_(std::fopen(part_.c_str(), "wbe"), std::fclose) {
  if (!file_) fail();
}

OutputFile::~OutputFile() {
  std::error_code ignored;
  if (file_) std::filesystem::remove(part_, ignored);
}

void OutputFile::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) fail();
}

void OutputFile::commit() {
  if (std::fflush(file_.get()) != 0) fail();
  sync_file(::fileno(file_.get()));
  std::filesystem::rename(part_, path_);
  file_.reset();
  sync_directory(std::filesystem::absolute(path_).parent_path().string());
}

void OutputFile::fail() const {
  throw std::runtime_error(fmt::format("cannot write {}: {}", part_.string(), std::generic_category().message(errno)));
}

}  // namespace penstock
