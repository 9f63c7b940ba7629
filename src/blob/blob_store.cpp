#include "blob/blob_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "blob/s3.h"

namespace penstock {
namespace {

bool is_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
  });
}

}  // namespace

bool is_own_key(std::string_view key) {
  constexpr std::string_view kKinds[] = {"file-", "plan-", "part_"};
  return is_key(key) &&
         std::any_of(std::begin(kKinds), std::end(kKinds), [&](auto kind) { return key.starts_with(kind); });
}

void check_key(std::string_view key) {
  if (!is_key(key)) throw std::logic_error("not a key of a blob");
}

std::string identity(BlobStore& blobs, const std::string& first) {
  const std::string key(kIdentityKey);
  while (true) {
    if (const auto reader = blobs.open(key)) {
      std::string id;
      reader->read_at(0, reader->size(), id);
      return id;
    }
    if (blobs.create_once(key, first)) return first;
  }
}

std::unique_ptr<BlobStore> open_blobs(const std::string& address, const std::string& scratch_directory) {
  if (address.starts_with("s3://")) {
    try {
      return open_s3_blobs(S3Options::from_environment(address), scratch_directory);
    } catch (const UsageError& e) {
      throw UsageError(fmt::format("blobs: {}", e.what()));
    }
  }
  if (address.empty() || address.find("://") != std::string::npos) {
    throw UsageError(fmt::format("blobs: '{}' is neither a folder nor s3://bucket/prefix", address));
  }
  try {
    auto blobs = open_local_blobs(address);
    blobs->create("part_probe")->write("");
    return blobs;
  } catch (const std::system_error& e) {
    throw UsageError(fmt::format("blobs: cannot write into the folder {}: {}", address, e.code().message()));
  }
}

}  // namespace penstock
