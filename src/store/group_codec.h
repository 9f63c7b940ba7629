#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/types.h"

// Result groups on disk. For the store's own sources.
//
// `entries`: 8 bytes a line, little endian. The request's index in 4, then the length of its output line in 4, whose
// highest bit is set when the line goes to the error file. `lines`: one zstd frame with a checksum.
namespace penstock {

std::string encode_entries(const std::vector<ResultEntry>& entries);
void for_each_entry(std::string_view bytes, const std::function<void(const ResultEntry&)>& each);

// Valid until this thread's next call.
std::string_view compress(std::string_view bytes);
// `size`: before compression. Throws sql::Failure when the bytes are damaged.
void decompress(std::string_view bytes, std::size_t size, std::string& out);

}  // namespace penstock
