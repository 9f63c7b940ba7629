#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace penstock {

// What the header of a GGUF file says of its model. The format is that of
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian: magic, version, numbers
// of tensors and of key-value pairs, the pairs, then a description of each tensor; the weights follow.
struct GgufHeader {
  std::string architecture, name;
  std::string quantisation;    // "Q4_K_M"; "unknown" when it is none that we have heard of
  std::int64_t file_size = 0;  // bytes, of all its parts
  std::int64_t parameters = 0;
  int layers = 0, heads = 0;
  std::vector<int> kv_heads;             // a layer
  int key_length = 0, value_length = 0;  // of a head
  int embedding_length = 0;
  int context_length = 0;       // that it was trained for
  std::int64_t vocabulary = 0;  // tokens
  bool has_chat_template = false;
};

// Reads it and no weights. Whatever the file holds, this ends soon and takes little memory: an Error in words when it
// is no such file, or is cut short. Of a model in several parts, whose names end in "-00001-of-00003.gguf", `path` is
// the first; all must be there.
Result<GgufHeader> read_gguf(const std::string& path);

}  // namespace penstock
