#include "blob/s3.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sha256.h"
#include "blob/block_cache.h"
#include "blob/s3_client.h"
#include "blob/xml.h"

// A blob is the object `prefix + key`. S3 shows an object when it is whole, and a multipart upload when it is
// completed.
namespace penstock {
namespace {

constexpr std::size_t kPartSize = 8 << 20;
constexpr std::size_t kPartsOfASize = 1000;    // then they double: S3 takes 10,000 parts, the last of 4 GiB
constexpr int kPartsUnderWay = 2;              // of one upload
constexpr int kPartsOfAll = 8;                 // in memory
constexpr std::size_t kSpoolSize = 64 * 1024;  // smaller pieces are gathered up to this
constexpr std::size_t kBlockSize = BlockCache::kBlockSize;
constexpr int kBlocksAhead = 4;              // for one who reads from front to back
constexpr int kBlocksAheadOfAll = 16;        // of all readers together
constexpr Millis kPartTimeout{120'000};      // half a megabit a second
constexpr Millis kCompleteTimeout{300'000};  // S3 puts the parts together meanwhile

struct Version {
  std::string key, etag;
  std::uint64_t size = 0;
  BlockCache::Id block(std::uint64_t number) const { return {key, etag, number}; }
};
using VersionPtr = std::shared_ptr<const Version>;

// A multipart upload. Its writer and the parts that are under way on the loop share it.
struct Upload {
  std::string key, id;
  std::mutex mutex;
  // What follows is protected by it.
  std::condition_variable changed;
  std::vector<std::string> etags;
  int under_way = 0;
  std::optional<std::string> failure;  // of a part
  bool abandoned = false;
};
using UploadPtr = std::shared_ptr<Upload>;

// What the store shares with its readers, writers and tasks, some of which may outlive it.
struct Bucket {
  Bucket(const S3Options& options, const std::string& the_scratch_directory)
      : prefix(options.prefix),
        scratch_directory(the_scratch_directory),
        cache(scratch_directory, options.cache_bytes_max),
        client(options) {}

  S3Request request(std::string method, const std::string& key) const {
    return {.method = std::move(method), .key = prefix + key};
  }
  XmlElement list(NameValues query, std::string_view root, Timestamp& now);
  void put(const std::string& key, std::string body);
  Task<> remove(std::string key);

  // Readers are counted, so that what they read is removed when they have gone.
  bool add_reader(const std::string& key);
  void drop_reader(const std::string& key);

  // Waits until one more part may be in memory.
  void take_place();
  void free_place();

  UploadPtr begin_upload(const std::string& key);
  Task<> send_part(UploadPtr upload, std::size_t number, std::string bytes, std::string sha256);
  void complete(Upload& upload, std::uint64_t size);
  void abandon(const UploadPtr& upload);
  Task<> abort(std::string key, std::string id);

  S3Request block_request(const Version& version, std::uint64_t number) const;
  std::string block_of(const Version& version, std::uint64_t number, ClientResponse response) const;
  void read_block(const Version& version, std::uint64_t number, std::size_t offset, std::size_t length,
                  std::string& out);
  void read_ahead(const VersionPtr& version, std::uint64_t number);
  Task<> fetch(VersionPtr version, std::uint64_t number);

  struct Readers {
    int count = 0;
    bool removed = false;
  };

  const std::string prefix, scratch_directory;
  BlockCache cache;
  std::atomic<int> ahead{0};  // blocks that are fetched before anybody asks
  std::mutex mutex;
  // The next three are protected by it.
  std::map<std::string, Readers> readers;  // by key
  std::condition_variable place_free;
  int places = kPartsOfAll;
  S3Client client;  // the last: its loop uses the others
};

void expect(const S3Client& client, const ClientResponse& response, int status, std::string_view doing) {
  if (response.status != status) client.refuse(response, doing);
}

std::string etag_of(const ClientResponse& response) {
  return std::string(response.headers.find("etag").value_or(""));
}

std::uint64_t size_of(const ClientResponse& response) {
  const std::string_view text = response.headers.find("content-length").value_or("");
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    throw StorageAway("S3 did not say how long a blob is");
  }
  return size;
}

XmlElement Bucket::list(NameValues query, std::string_view root, Timestamp& now) {
  query.emplace_back("prefix", prefix);
  const ClientResponse response = client.send({.method = "GET", .query = std::move(query)});
  expect(client, response, 200, "list");
  now = client.time_of(response);
  try {
    XmlElement list = parse_xml(response.body);
    if (list.name == root) return list;
  } catch (const std::runtime_error&) {
    // said below
  }
  throw StorageAway("S3 answered with no list when it was asked for one; is this the address of S3?");
}

void Bucket::put(const std::string& key, std::string body) {
  S3Request put = request("PUT", key);
  put.body = std::move(body);
  put.timeout = kPartTimeout;
  expect(client, client.send(std::move(put)), 200, "write");
}

Task<> Bucket::remove(std::string key) {
  const ClientResponse response = co_await client.ask(request("DELETE", key));
  if (response.status != 404) expect(client, response, 204, "delete");
  cache.forget(key);
}

bool Bucket::add_reader(const std::string& key) {
  const std::lock_guard lock(mutex);
  Readers& known = readers[key];
  if (known.removed) return false;
  ++known.count;
  return true;
}

void Bucket::drop_reader(const std::string& key) {
  const std::lock_guard lock(mutex);
  const auto known = readers.find(key);
  if (--known->second.count > 0) return;
  const bool removed = known->second.removed;
  readers.erase(known);
  if (!removed) return;
  try {
    client.spawn(remove(key));
  } catch (const StorageAway&) {
    // We are about to end. No row names it, so a later sweep finds it.
  }
}

void Bucket::take_place() {
  std::unique_lock lock(mutex);
  place_free.wait(lock, [&] { return places > 0; });
  --places;
}

void Bucket::free_place() {
  const std::lock_guard lock(mutex);
  ++places;
  place_free.notify_one();
}

UploadPtr Bucket::begin_upload(const std::string& key) {
  S3Request begin = request("POST", key);
  begin.query = {{"uploads", ""}};
  const ClientResponse response = client.send(std::move(begin));
  expect(client, response, 200, "write");
  const auto upload = std::make_shared<Upload>();
  upload->key = key;
  upload->id = parse_xml(response.body).value("UploadId");
  if (upload->id.empty()) throw StorageAway("S3 began an upload without an id");
  return upload;
}

Task<> Bucket::send_part(UploadPtr upload, std::size_t number, std::string bytes, std::string sha256) {
  std::string etag;
  std::optional<std::string> failure;
  try {
    S3Request part = request("PUT", upload->key);
    part.query = {{"partNumber", std::to_string(number)}, {"uploadId", upload->id}};
    part.body = std::move(bytes);
    part.body_sha256 = std::move(sha256);
    part.timeout = kPartTimeout;
    const ClientResponse response = co_await client.ask(std::move(part));
    expect(client, response, 200, "write a part");
    etag = etag_of(response);
  } catch (const std::exception& e) {
    failure = e.what();
  }
  free_place();
  bool last_of_abandoned = false;
  {
    const std::lock_guard lock(upload->mutex);
    upload->etags[number - 1] = etag;
    if (failure && !upload->failure) upload->failure = failure;
    last_of_abandoned = --upload->under_way == 0 && upload->abandoned;
    upload->changed.notify_all();
  }
  if (last_of_abandoned) co_await abort(upload->key, upload->id);
}

void Bucket::complete(Upload& upload, std::uint64_t size) {
  S3Request end = request("POST", upload.key);
  end.query = {{"uploadId", upload.id}};
  end.timeout = kCompleteTimeout;
  end.body = "<CompleteMultipartUpload>";
  for (std::size_t i = 0; i < upload.etags.size(); ++i) {
    end.body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, upload.etags[i]);
  }
  end.body += "</CompleteMultipartUpload>";
  const ClientResponse response = client.send(std::move(end));
  if (response.status == 404) {
    // It may have been completed by a try whose answer was lost.
    const ClientResponse made = client.send(request("HEAD", upload.key));
    if (made.status == 200 && size_of(made) == size) return;
  }
  expect(client, response, 200, "complete an upload");
}

void Bucket::abandon(const UploadPtr& upload) {
  {
    const std::lock_guard lock(upload->mutex);
    upload->abandoned = true;
    if (upload->under_way > 0) return;  // the last part does the rest
  }
  try {
    client.spawn(abort(upload->key, upload->id));
  } catch (const StorageAway&) {
    // We are about to end. A later sweep finds it.
  }
}

Task<> Bucket::abort(std::string key, std::string id) {
  S3Request abort = request("DELETE", key);
  abort.query = {{"uploadId", id}};
  const ClientResponse response = co_await client.ask(std::move(abort));
  if (response.status != 404) expect(client, response, 204, "abort an upload");
}

S3Request Bucket::block_request(const Version& version, std::uint64_t number) const {
  const std::uint64_t first = number * kBlockSize, end = std::min(version.size, first + kBlockSize);
  S3Request get = request("GET", version.key);
  get.headers.emplace_back("range", fmt::format("bytes={}-{}", first, end - 1));
  if (!version.etag.empty()) get.headers.emplace_back("if-match", version.etag);
  return get;
}

std::string Bucket::block_of(const Version& version, std::uint64_t number, ClientResponse response) const {
  const std::uint64_t size = std::min<std::uint64_t>(kBlockSize, version.size - number * kBlockSize);
  const int status = response.status;
  if (status == 404 || status == 412 || status == 416) {
    throw std::runtime_error("a blob in S3 was removed or replaced by another process while it was read");
  }
  const bool whole = status == 200 && version.size == size;
  if (!whole) expect(client, response, 206, "read");
  if (response.body.size() != size) throw StorageAway("S3 answered with another range of a blob than was asked for");
  return std::move(response.body);
}

void Bucket::read_block(const Version& version, std::uint64_t number, std::size_t offset, std::size_t length,
                        std::string& out) {
  const BlockCache::Id id = version.block(number);
  while (!cache.read(id, offset, length, out)) {
    if (!cache.claim(id)) continue;
    try {
      const std::string bytes = block_of(version, number, client.send(block_request(version, number)));
      cache.put(id, bytes);
      out.append(bytes, offset, length);
      return;
    } catch (...) {
      cache.give_up(id);
      throw;
    }
  }
}

void Bucket::read_ahead(const VersionPtr& version, std::uint64_t number) {
  const BlockCache::Id id = version->block(number);
  if (ahead >= kBlocksAheadOfAll || !cache.claim(id)) return;
  ++ahead;
  try {
    client.spawn(fetch(version, number));
  } catch (const StorageAway&) {
    --ahead;
    cache.give_up(id);
  }
}

// Who reads the block tells of a failure, since it tries again.
Task<> Bucket::fetch(VersionPtr version, std::uint64_t number) {
  const BlockCache::Id id = version->block(number);
  try {
    ClientResponse response = co_await client.ask(block_request(*version, number));
    cache.put(id, block_of(*version, number, std::move(response)));
  } catch (const std::exception&) {
    cache.give_up(id);
  }
  --ahead;
}

// One of the places for parts in memory.
struct Place {
  explicit Place(Bucket& the_bucket) : bucket(&the_bucket) { bucket->take_place(); }
  ~Place() {
    if (bucket) bucket->free_place();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  Bucket* bucket;
};

class S3Writer final : public BlobWriter {
 public:
  S3Writer(std::shared_ptr<Bucket> bucket, std::string key) : bucket_(std::move(bucket)), key_(std::move(key)) {}
  ~S3Writer() override {
    if (upload_ && !completed_) bucket_->abandon(upload_);
  }

  void write(std::string_view bytes) override {
    size_ += bytes.size();
    while (!bytes.empty()) {
      if (part_bytes() == part_size()) send_part();
      const std::string_view piece = bytes.substr(0, part_size() - part_bytes());
      buffer_ += piece;
      bytes.remove_prefix(piece.size());
      if (buffer_.size() >= kSpoolSize) spool();
    }
  }

  void commit() override {
    if (std::exchange(ended_, true)) throw std::logic_error("a blob is committed once");
    if (!upload_) {
      const Place place(*bucket_);
      bucket_->put(key_, take_part());
    } else {
      send_part();
      wait_for_parts(0);
      bucket_->complete(*upload_, size_);
      completed_ = true;
    }
    const std::lock_guard lock(bucket_->mutex);
    if (const auto known = bucket_->readers.find(key_); known != bucket_->readers.end()) known->second.removed = false;
  }

  std::uint64_t size() const override { return size_; }

 private:
  std::size_t part_size() const { return kPartSize << (parts_ / kPartsOfASize); }

  std::size_t part_bytes() const { return spooled_ + buffer_.size(); }

  void spool() {
    if (!spool_) spool_.emplace(bucket_->scratch_directory);
    spool_->write(spooled_, buffer_);
    spooled_ += buffer_.size();
    buffer_.clear();
  }

  std::string take_part() {
    std::string part;
    part.reserve(part_bytes());
    if (spooled_ > 0) spool_->read(0, spooled_, part);
    part += buffer_;
    spooled_ = 0;
    buffer_.clear();
    return part;
  }

  void send_part() {
    if (!upload_) upload_ = bucket_->begin_upload(key_);
    wait_for_parts(kPartsUnderWay - 1);
    Place place(*bucket_);
    std::string part = take_part();
    std::string sha256 = sha256_hex(part);
    {
      const std::lock_guard lock(upload_->mutex);
      upload_->etags.emplace_back();
      ++upload_->under_way;
    }
    ++parts_;
    try {
      bucket_->client.spawn(bucket_->send_part(upload_, parts_, std::move(part), std::move(sha256)));
    } catch (...) {
      const std::lock_guard lock(upload_->mutex);
      --upload_->under_way;
      throw;
    }
    place.bucket = nullptr;  // the part frees it
  }

  // Until no more than so many are under way.
  void wait_for_parts(int count) {
    std::unique_lock lock(upload_->mutex);
    upload_->changed.wait(lock, [&] { return upload_->under_way <= count; });
    if (upload_->failure) throw StorageAway(*upload_->failure);
  }

  const std::shared_ptr<Bucket> bucket_;
  const std::string key_;
  // The next part: first what is spooled, so that writers take no memory while they wait for their bytes.
  std::optional<ScratchFile> spool_;
  std::size_t spooled_ = 0;
  std::string buffer_;
  std::size_t parts_ = 0;
  std::uint64_t size_ = 0;
  UploadPtr upload_;  // none while all fits into the first part
  bool ended_ = false, completed_ = false;
};

class S3Reader final : public BlobReader {
 public:
  S3Reader(std::shared_ptr<Bucket> bucket, Version version)
      : bucket_(std::move(bucket)), version_(std::make_shared<const Version>(std::move(version))) {}
  ~S3Reader() override { bucket_->drop_reader(version_->key); }

  std::uint64_t size() const override { return version_->size; }

  void read_at(std::uint64_t offset, std::size_t length, std::string& out) const override {
    if (offset >= version_->size) return;
    const std::uint64_t end = offset + std::min<std::uint64_t>(length, version_->size - offset);
    const std::size_t start = out.size();
    try {
      while (offset < end) {
        const std::uint64_t number = offset / kBlockSize;
        const std::size_t from = offset % kBlockSize;
        const std::size_t count = std::min<std::uint64_t>(end - offset, kBlockSize - from);
        const std::uint64_t expected = next_.exchange(number + 1);
        for (int i = 1; number == expected && i <= kBlocksAhead && (number + i) * kBlockSize < version_->size; ++i) {
          bucket_->read_ahead(version_, number + i);
        }
        bucket_->read_block(*version_, number, from, count, out);
        offset += count;
      }
    } catch (...) {
      out.resize(start);
      throw;
    }
  }

 private:
  const std::shared_ptr<Bucket> bucket_;
  const VersionPtr version_;
  mutable std::atomic<std::uint64_t> next_{0};  // the block that follows the one that was read last
};

class S3Blobs final : public BlobStore {
 public:
  S3Blobs(const S3Options& options, const std::string& scratch_directory)
      : bucket_(std::make_shared<Bucket>(options, scratch_directory)) {}
  ~S3Blobs() override { bucket_->client.close(); }

  // Whether we may do what we shall have to.
  void check() {
    Timestamp now;
    bucket_->list({{"list-type", "2"}, {"max-keys", "1"}}, "ListBucketResult", now);
    const std::string key = random_id("part_probe");
    bucket_->put(key, "");
    remove(key);
  }

  std::unique_ptr<BlobWriter> create(const std::string& key) override {
    check_key(key);
    return std::make_unique<S3Writer>(bucket_, key);
  }

  std::unique_ptr<BlobReader> open(const std::string& key) const override {
    check_key(key);
    if (!bucket_->add_reader(key)) return nullptr;
    try {
      const ClientResponse response = bucket_->client.send(bucket_->request("HEAD", key));
      if (response.status == 404) {
        bucket_->drop_reader(key);
        return nullptr;
      }
      expect(bucket_->client, response, 200, "read");
      return std::make_unique<S3Reader>(bucket_, Version{key, etag_of(response), size_of(response)});
    } catch (...) {
      bucket_->drop_reader(key);
      throw;
    }
  }

  void remove(const std::string& key) override {
    check_key(key);
    {
      const std::lock_guard lock(bucket_->mutex);
      if (const auto known = bucket_->readers.find(key); known != bucket_->readers.end()) {
        known->second.removed = true;
        return;
      }
    }
    const ClientResponse response = bucket_->client.send(bucket_->request("DELETE", key));
    if (response.status != 404) expect(bucket_->client, response, 204, "delete");
    bucket_->cache.forget(key);
  }

  std::vector<std::string> keys(Millis age_min) const override {
    std::vector<std::string> keys;
    NameValues from;
    while (true) {
      Timestamp now;
      NameValues query = from;
      query.emplace_back("list-type", "2");
      query.emplace_back("delimiter", "/");  // what lies below belongs to others
      const XmlElement page = bucket_->list(std::move(query), "ListBucketResult", now);
      for (const XmlElement& object : page.children) {
        if (object.name != "Contents" || !is_old(object.value("LastModified"), age_min, now)) continue;
        const auto key = own_key(object);
        if (key && !is_removed(*key)) keys.push_back(*key);
      }
      if (page.value("IsTruncated") != "true") return keys;
      from = {{"continuation-token", std::string(page.value("NextContinuationToken"))}};
    }
  }

  void abort_unfinished(Millis age_min) override {
    NameValues from;
    while (true) {
      Timestamp now;
      NameValues query = from;
      query.emplace_back("uploads", "");
      const XmlElement page = bucket_->list(std::move(query), "ListMultipartUploadsResult", now);
      for (const XmlElement& upload : page.children) {
        if (upload.name != "Upload" || !is_old(upload.value("Initiated"), age_min, now)) continue;
        const auto key = own_key(upload);
        if (!key) continue;
        S3Request abort = bucket_->request("DELETE", *key);
        abort.query = {{"uploadId", std::string(upload.value("UploadId"))}};
        const ClientResponse response = bucket_->client.send(std::move(abort));
        if (response.status != 404) expect(bucket_->client, response, 204, "abort an upload");
      }
      if (page.value("IsTruncated") != "true") return;
      from = {{"key-marker", std::string(page.value("NextKeyMarker"))},
              {"upload-id-marker", std::string(page.value("NextUploadIdMarker"))}};
    }
  }

  bool create_once(const std::string& key, std::string_view bytes) override {
    check_key(key);
    S3Request put = bucket_->request("PUT", key);
    put.headers.emplace_back("if-none-match", "*");
    put.body = bytes;
    const ClientResponse response = bucket_->client.send(std::move(put));
    if (response.status == 412 || response.status == 409) return false;  // 409: another one is about to
    expect(bucket_->client, response, 200, "write");
    return true;
  }

 private:
  // Of an object or an upload in a list; nothing when it is none of ours.
  std::optional<std::string> own_key(const XmlElement& object) const {
    std::string_view key = object.value("Key");
    if (!key.starts_with(bucket_->prefix)) return std::nullopt;
    key.remove_prefix(bucket_->prefix.size());
    return is_own_key(key) ? std::optional(std::string(key)) : std::nullopt;
  }

  bool is_removed(const std::string& key) const {
    const std::lock_guard lock(bucket_->mutex);
    const auto known = bucket_->readers.find(key);
    return known != bucket_->readers.end() && known->second.removed;
  }

  static bool is_old(std::string_view date, Millis age_min, Timestamp now) {
    if (age_min == Millis{0}) return true;
    const auto parsed = parse_iso_date(date);
    return parsed && now - *parsed >= age_min;
  }

  const std::shared_ptr<Bucket> bucket_;
};

class ObjectsInS3 final : public S3Objects {
 public:
  ObjectsInS3(const S3Options& options, const std::string& scratch_directory)
      : bucket_(std::make_shared<Bucket>(options, scratch_directory)) {}
  ~ObjectsInS3() override { bucket_->client.close(); }

  std::unique_ptr<BlobWriter> create(const std::string& name) override {
    return std::make_unique<S3Writer>(bucket_, name);
  }

 private:
  const std::shared_ptr<Bucket> bucket_;
};

}  // namespace

std::unique_ptr<S3Objects> open_s3_objects(const S3Options& options, const std::string& scratch_directory) {
  return std::make_unique<ObjectsInS3>(options, scratch_directory);
}

std::unique_ptr<BlobStore> open_s3_blobs(const S3Options& options, const std::string& scratch_directory) {
  auto blobs = std::make_unique<S3Blobs>(options, scratch_directory);
  try {
    blobs->check();
  } catch (const StorageAway& e) {
    throw UsageError(e.what());
  }
  return blobs;
}

}  // namespace penstock
