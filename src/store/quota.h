#pragma once
#include "store/store.h"

// What a project may have at most (Quotas), held against what it has. Inside a transaction, like Store's own functions.
namespace penstock {

// Error quota_exceeded when the project may not have one more batch with so many lines to do. Under lock_queue().
Result<void> check_batch(Store& store, const ProjectId& project, std::int64_t lines);

// Error quota_exceeded when the project may not have so many bytes more in files and in parts of pending uploads.
Result<void> check_bytes(Store& store, const ProjectId& project, std::uint64_t bytes);
// The same for who adds them in this transaction: of several at once, each is counted with those before it. Takes
// `lock("bytes …")`.
Result<void> admit_bytes(Store& store, const ProjectId& project, std::uint64_t bytes);

}  // namespace penstock
