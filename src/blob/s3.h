#pragma once
#include <functional>
#include <optional>

#include "blob/blob_store.h"
#include "blob/sigv4.h"

namespace penstock {

// Where blobs lie in S3, or in what speaks its protocol, and who we are there.
struct S3Options {
  std::string bucket;
  std::string prefix;    // before each key: "" or "a/b/"
  std::string endpoint;  // a URL
  // Whether the bucket is the first part of the path; otherwise it is the first label of the host's name. Amazon's own
  // endpoints are asked by host, but for buckets with a dot, whose names no certificate covers. An endpoint that was
  // named by its URL is asked by path, which every implementation understands.
  bool path_style = true;
  std::string region = "us-east-1";
  AwsCredentials credentials;
  Millis patience{8'000};                      // with failures that may pass: so long is tried again
  std::uint64_t cache_bytes_max = 4ULL << 30;  // on disk

  // `address` is s3://bucket or s3://bucket/prefix. The rest is found where Amazon's own tools look for it, the first
  // that is there: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL; AWS_REGION, AWS_DEFAULT_REGION, the profile's region;
  // AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, the profile's keys. The profile is AWS_PROFILE
  // or "default", in AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials) and AWS_CONFIG_FILE (~/.aws/config). Throws
  // UsageError.
  using Environment = std::function<std::optional<std::string>(const char* name)>;
  static S3Options from_environment(const std::string& address, const Environment& environment = process_environment);
  static std::optional<std::string> process_environment(const char* name);
};

// A small blob is written with one request when it is committed, a larger one in parts, of which two are under way
// while the caller goes on writing. A part has 8 MiB up to 8 GB, and twice that for each further 16, 32 GB and so on.
// It is gathered in an unnamed file below `scratch_directory`, and no more than 8 are in memory, whoever writes. What
// is read comes in blocks of 1 MiB, by way of a cache in another such file that all readers share.
//
// A failure that may pass is tried again for a few seconds, or once while the storage has been away for longer. The
// store has a thread of its own for what is under way. What is removed while it is read here is removed from S3 when
// its readers have gone; other processes that read it find it gone. Throws UsageError when the bucket cannot be listed,
// written and deleted from.
std::unique_ptr<BlobStore> open_s3_blobs(const S3Options& options, const std::string& scratch_directory);

// Objects for others, by names of their own behind the prefix, written as blobs are. S3 is asked nothing before the
// first one.
class S3Objects {
 public:
  virtual ~S3Objects() = default;
  virtual std::unique_ptr<BlobWriter> create(const std::string& name) = 0;
};
std::unique_ptr<S3Objects> open_s3_objects(const S3Options& options, const std::string& scratch_directory);

}  // namespace penstock
