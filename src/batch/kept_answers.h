#pragma once
#include "blob/blob_store.h"
#include "model/types.h"

namespace penstock {

// Reads the good answers of an earlier batch, for a new one over the same input file to take over. One thread at a
// time; functions block.
class KeptAnswers {
 public:
  // `output` is the earlier batch's output file, `plan` that of the input file. Throws std::runtime_error when they do
  // not fit each other.
  KeptAnswers(std::unique_ptr<BlobReader> output, const BlobReader& plan);

  // The next answers as result groups, one for each span they belong to, some megabytes in all; none at the end. Their
  // batch is not filled in.
  std::vector<ResultGroup> next();

 private:
  std::unique_ptr<BlobReader> output_;
  std::vector<std::uint32_t> span_of_;  // by request index
  std::uint64_t offset_ = 0;            // of the first byte of output_ that next() has not used
  std::string buffer_;
};

}  // namespace penstock
