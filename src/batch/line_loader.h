#pragma once
#include "batch/line_queue.h"
#include "model/answer_key.h"
#include "model/line_parser.h"

namespace penstock {

// Reads the lines of a stretch: its plan entries, then the bytes that they name. Blocks; one call at a time.
class LineLoader {
 public:
  // `groups_embeddings`: whether to look which lines can be sent together.
  LineLoader(BlobStore& blobs, bool groups_embeddings) : blobs_(blobs), groups_embeddings_(groups_embeddings) {}

  // The next lines, about a megabyte of them; less where so many `sharers` do the same. Throws when the files cannot be
  // read or are not what was validated; the stretch is then as it was.
  std::vector<Line> load(Stretch& stretch, std::size_t sharers = 1);

 private:
  void open(Stretch& stretch);
  std::shared_ptr<const InputFiles> files(const FileId& id);

  BlobStore& blobs_;
  bool groups_embeddings_;
  std::map<FileId, std::weak_ptr<const InputFiles>> open_;  // to open one may be a question over the network
  LineParser parser_;
  AnswerKeys keys_;
};

}  // namespace penstock
