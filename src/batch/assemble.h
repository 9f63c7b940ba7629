#pragma once
#include "blob/blob_store.h"
#include "model/types.h"

namespace penstock {

// Writes a batch's output and error files in the order of its input file. Result groups come in any order; they are
// spooled to a scratch file without a name, and 12 bytes a line say where each line's answer lies. So memory does not
// grow with the answers. One thread at a time; functions block and throw std::system_error.
class Assembler {
 public:
  // What is written for lines that have no result.
  struct Missing {
    std::string code, message;
  };

  Assembler(BlobStore& blobs, const Batch& batch, const std::string& scratch_directory);
  ~Assembler();
  Assembler(const Assembler&) = delete;
  Assembler& operator=(const Assembler&) = delete;

  void add(const ResultGroup& group);

  struct Assembled {
    std::optional<File> output, errors;  // none where no line is in it
    Counts counts;
  };
  // The files are durable when it returns. Their ids and keys are made of the batch's id, so that doing it again after
  // a crash writes the same blobs again.
  Assembled finish(const Missing& missing, Timestamp now);

 private:
  struct Sink;
  void find_missing_lines();

  BlobStore& blobs_;
  const Batch batch_;
  int spool_ = -1;
  std::uint64_t spooled_ = 0;
  std::string buffer_;
  // By request index. A length of 0: no result.
  std::vector<std::uint64_t> offsets_;  // in the spool, or in the input file for a missing line
  std::vector<std::uint32_t> lengths_;
  std::vector<bool> failed_, missing_;
};

// What a finished batch's files are called.
FileId output_file_id(const BatchId& id);
FileId error_file_id(const BatchId& id);

}  // namespace penstock
