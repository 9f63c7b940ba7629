#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blob/blob_store.h"
#include "model/types.h"

namespace penstock {

enum class Verdict { same, different, only_left, only_right };
std::string_view to_string(Verdict verdict);

// Two batches that have ended, line by line: those of one custom_id belong together. The lines of the left one come in
// their order, then those that only the right one has. Lines of files that were deleted are not there.
struct Comparison {
  // Of a line in the batch's output or error file.
  struct Place {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    bool failed = false;
  };
  struct Pair {
    Verdict verdict{};
    std::optional<Place> left, right;
  };
  std::vector<Pair> pairs;
  std::array<std::int64_t, 4> totals{};  // by verdict
};

// Reads all files of both; blocks. Lines are the same when both have an answer, or both have none, and what a person
// would read there is the same.
Comparison compare(const BlobStore& blobs, const Batch& left, const Batch& right);

// The two files of a batch. Functions block.
class ResultFiles {
 public:
  ResultFiles(const BlobStore& blobs, const Batch& batch);
  std::string line(const Comparison::Place& place) const;

 private:
  std::unique_ptr<BlobReader> output_, errors_;
};

}  // namespace penstock
