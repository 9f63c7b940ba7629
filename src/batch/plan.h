#pragma once
#include "blob/blob_store.h"
#include "model/types.h"

// The plan blob: the order in which the lines of an input file are dispatched (see PrefixOrder), as an array of
// PlanEntry in the machine's byte order. It goes with its file, and stays as it is: the spans of all batches over that
// file name its entries.
namespace penstock {

std::string plan_key(const FileId& input);

// Blocks; throws std::system_error.
void write_plan(BlobStore& blobs, const FileId& input, const std::vector<PlanEntry>& entries);

// Entries `first` to `first + count`. Throws std::runtime_error when the blob has fewer.
std::vector<PlanEntry> read_plan(const BlobReader& plan, std::uint32_t first, std::uint32_t count);
std::uint32_t plan_size(const BlobReader& plan);

}  // namespace penstock
