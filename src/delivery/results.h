#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blob/blob_store.h"

namespace penstock {

// The files of a batch that a sink is to have, as one row of bytes: the output file, and behind it the error file.
// Positions in it stay what they are as long as the files are there. Safe from several threads; functions block, and
// throw as BlobReader's do.
class Results {
 public:
  struct Part {
    std::string name;  // "output.jsonl" or "errors.jsonl"
    std::uint64_t begin = 0, end = 0;
    std::unique_ptr<BlobReader> blob;
  };

  // One that is null is not there and has no bytes.
  Results(std::unique_ptr<BlobReader> output, std::unique_ptr<BlobReader> errors);

  const std::vector<Part>& parts() const { return parts_; }
  std::uint64_t size() const { return parts_.empty() ? 0 : parts_.back().end; }

  // The bytes from `position` on; fewer than `length` at the end of a file, none at the end of all.
  std::string bytes(std::uint64_t position, std::size_t length) const;

  // Whole lines from `position`, where one begins: up to `lines_max`, and when these have more than `bytes_max`, those
  // that fit, but at least one. The same each time, so that a group which is brought again is the same group.
  std::string lines(std::uint64_t position, std::size_t lines_max, std::size_t bytes_max) const;

 private:
  std::vector<Part> parts_;
};

// Each line of `lines`, without its newline.
std::vector<std::string_view> split_into_lines(std::string_view lines);

}  // namespace penstock
