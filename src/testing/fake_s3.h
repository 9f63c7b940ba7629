#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "base/sha256.h"
#include "blob/s3.h"
#include "net/http_server.h"

namespace penstock {

// A bucket of S3 in memory, served on loopback by a thread of its own, that fails as a test likes. It checks no
// signatures. Functions are safe from any thread.
class FakeS3 {
 public:
  struct Asked {
    std::string what;  // "PUT p/key", "GET p/key 0-9" of a range, "POST p/key uploads", "GET  list-type"
    std::string method, path, key, query;
    Headers headers;
    std::string body;
  };
  // What is answered instead; nothing: what S3 would say. It is called by the server's thread, one call at a time, and
  // throws for a connection that ends without an answer.
  using Spoil = std::function<std::optional<Response>(const Asked&)>;

  explicit FakeS3(Millis ahead = Millis{0}) : clock_(loop_, ahead) {
    server_.listen();
    tasks_.spawn("S3", server_.run());
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~FakeS3() {
    asio::post(loop_, [this] { ending_.spawn("the end of S3", end()); });
    thread_.join();
  }

  S3Options options(const std::string& prefix = "p/") const {
    S3Options options;
    options.bucket = "bucket";
    options.prefix = prefix;
    options.endpoint = fmt::format("http://127.0.0.1:{}", server_.port());
    options.credentials = {"the-key-id", "the-secret", ""};
    options.patience = Millis{300};
    options.cache_bytes_max = 64 << 20;
    return options;
  }

  void set_spoil(Spoil spoil) {
    const std::lock_guard lock(mutex_);
    spoil_ = std::move(spoil);
  }
  // Answers so many of those requests with this status.
  void fail(int count, const std::string& what, int status, const std::string& code = "") {
    set_spoil([=, left = std::make_shared<int>(count)](const Asked& asked) -> std::optional<Response> {
      if (!asked.what.starts_with(what) || (*left)-- <= 0) return std::nullopt;
      return error(status, code);
    });
  }
  static Response error(int status, const std::string& code) {
    Response response;
    response.status = status;
    if (!code.empty()) response.body = fmt::format("<Error><Code>{}</Code><Message>in words</Message></Error>", code);
    return response;
  }

  std::map<std::string, std::string> objects() const {
    const std::lock_guard lock(mutex_);
    return objects_;
  }
  void put(const std::string& key, const std::string& bytes) {
    const std::lock_guard lock(mutex_);
    objects_[key] = bytes;
  }
  std::size_t uploads() const {
    const std::lock_guard lock(mutex_);
    return uploads_.size();
  }
  std::vector<std::string> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  void forget_asked() {
    const std::lock_guard lock(mutex_);
    asked_.clear();
  }
  std::size_t count(const std::string& what) const {
    const auto all = asked();
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [&](const auto& one) { return one.starts_with(what); }));
  }
  // False when it is not asked so within half a minute.
  [[nodiscard]] bool wait_for(const std::string& what, std::size_t times = 1) {
    std::unique_lock lock(mutex_);
    return heard_.wait_for(lock, std::chrono::seconds(30), [&] {
      return static_cast<std::size_t>(std::count_if(asked_.begin(), asked_.end(),
                                                    [&](const auto& one) { return one.starts_with(what); })) >= times;
    });
  }

  std::atomic<std::size_t> page_size{1000};
  std::string listed_date = "2020-01-01T00:00:00.000Z";  // of all that is listed; set it before it is listed

 private:
  class Ahead : public SystemClock {
   public:
    Ahead(asio::io_context& loop, Millis ahead) : SystemClock(loop), ahead_(ahead) {}
    Timestamp now() const override { return SystemClock::now() + ahead_; }

   private:
    const Millis ahead_;
  };

  Task<> end() {
    co_await server_.stop(Millis{0});
    tasks_.cancel();
    co_await tasks_.join();
    loop_.stop();
  }

  Task<Response> serve(Request& request) {
    Asked asked{
        .what = "", .method = request.method, .path = "", .key = "", .query = request.query, .headers = {}, .body = ""};
    asked.headers = request.headers;
    asked.body = co_await read_all(*request.body, 64 << 20);
    asked.path = percent_decode(request.path).value_or("");
    if (asked.path.size() > 8) asked.key = asked.path.substr(8);  // after "/bucket/"
    asked.what = asked.method + " " + asked.key;
    for (const char* part : {"uploads", "uploadId", "list-type"}) {
      if (query_param(asked.query, part)) asked.what += std::string(" ") + part;
    }
    if (const auto range = request.headers.find("range")) asked.what += " " + std::string(range->substr(6));
    const std::lock_guard lock(mutex_);
    asked_.push_back(asked.what);
    heard_.notify_all();
    if (auto spoilt = spoil_ ? spoil_(asked) : std::nullopt) co_return std::move(*spoilt);
    co_return answer(asked);
  }

  Response answer(const Asked& asked) {
    const auto param = [&](const char* name) { return query_param(asked.query, name); };
    if (asked.key.empty())
      return param("uploads") ? list_uploads(param("key-marker")) : list(param("continuation-token"));
    if (asked.method == "POST" && param("uploads")) {
      const std::string id = std::to_string(++last_upload_);
      uploads_[id] = {asked.key, {}};
      return with_body(fmt::format("<R><UploadId>{}</UploadId></R>", id));
    }
    if (const auto id = param("uploadId")) return part(asked, *id, param("partNumber"));
    const auto found = objects_.find(asked.key);
    if (asked.method == "PUT") {
      if (asked.headers.find("if-none-match") && found != objects_.end()) return error(412, "PreconditionFailed");
      objects_[asked.key] = asked.body;
      return with_etag(asked.body);
    }
    if (asked.method == "DELETE") {
      objects_.erase(asked.key);
      return error(204, "");
    }
    if (found == objects_.end()) return error(404, "NoSuchKey");
    return get(asked, found->second);
  }

  Response get(const Asked& asked, const std::string& bytes) {
    Response response = with_etag(bytes);
    const auto match = asked.headers.find("if-match");
    if (match && *match != *response.headers.find("etag")) return error(412, "PreconditionFailed");
    response.body = bytes;
    if (const auto header = asked.headers.find("range")) {
      const ByteRange range = parse_range(*header, bytes.size());
      response.status = 206;
      response.body = bytes.substr(range.first, range.length);
    }
    return response;
  }

  Response part(const Asked& asked, const std::string& id, const std::optional<std::string>& number) {
    const auto found = uploads_.find(id);
    if (found == uploads_.end()) return error(404, "NoSuchUpload");
    if (number) {
      found->second.second[std::stoi(*number)] = asked.body;
      return with_etag(asked.body);
    }
    if (asked.method == "POST") {
      std::string all;
      for (const auto& [n, bytes] : found->second.second) all += bytes;
      objects_[asked.key] = all;
    }
    uploads_.erase(found);
    return asked.method == "POST" ? with_body("<CompleteMultipartUploadResult/>") : error(204, "");
  }

  Response list(const std::optional<std::string>& from) {
    std::string page = "<ListBucketResult>";
    std::size_t count = 0;
    for (auto i = objects_.upper_bound(from.value_or("")); i != objects_.end(); ++i) {
      page += fmt::format("<Contents><Key>{}</Key><LastModified>{}</LastModified></Contents>", i->first, listed_date);
      if (++count < page_size) continue;
      page += fmt::format("<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>", i->first);
      break;
    }
    return with_body(page + "</ListBucketResult>");
  }

  Response list_uploads(const std::optional<std::string>& from) {
    std::string page = "<ListMultipartUploadsResult>";
    std::size_t count = 0;
    for (const auto& [id, upload] : uploads_) {
      if (upload.first <= from.value_or("")) continue;
      page += fmt::format("<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiated>{}</Initiated></Upload>",
                          upload.first, id, listed_date);
      if (++count < page_size) continue;
      page += fmt::format("<IsTruncated>true</IsTruncated><NextKeyMarker>{}</NextKeyMarker>", upload.first);
      break;
    }
    return with_body(page + "</ListMultipartUploadsResult>");
  }

  static Response with_body(std::string body) {
    Response response;
    response.body = std::move(body);
    return response;
  }
  static Response with_etag(const std::string& bytes) {
    Response response;
    response.headers.add("ETag", fmt::format("\"{}\"", sha256_hex(bytes).substr(0, 32)));
    return response;
  }

  asio::io_context loop_{1};
  Ahead clock_;
  HttpServer server_{loop_, clock_, {}, [this](Request& request) { return serve(request); }};
  TaskGroup tasks_{loop_}, ending_{loop_};
  mutable std::mutex mutex_;
  // What follows is protected by it.
  std::condition_variable heard_;
  Spoil spoil_;
  std::map<std::string, std::string> objects_;
  std::map<std::string, std::pair<std::string, std::map<int, std::string>>> uploads_;  // by id: key, parts
  int last_upload_ = 0;
  std::vector<std::string> asked_;
  std::thread thread_;
};

}  // namespace penstock
