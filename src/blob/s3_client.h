#pragma once
#include <future>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "blob/s3.h"
#include "net/http_client.h"

namespace penstock {

struct S3Request {
  std::string method;
  std::string key = {};  // of the object, with its prefix; empty: of the bucket
  NameValues query = {};
  NameValues headers = {};  // lower-case names; they are signed
  std::string body = {};
  Millis timeout{30'000};        // of one try
  std::string body_sha256 = {};  // made when it is empty
};

// Signed requests to one bucket, on a loop and a thread of its own.
class S3Client {
 public:
  explicit S3Client(const S3Options& options);
  ~S3Client();

  // What S3 answered, unless that may pass: then it is asked again until `patience` is over. Throws StorageAway.
  // Blocks; any thread but the loop's.
  ClientResponse send(S3Request request);
  // The same for coroutines on the loop.
  Task<ClientResponse> ask(S3Request request);

  // Runs a task on the loop. Any thread. Throws StorageAway after close().
  void spawn(Task<> task);
  // Ends what is under way; gives it a few seconds for that. Nothing is asked any more. Not on the loop's thread.
  void close();

  // For an answer that nobody expects. Its words are for the operator: what was asked, by whom, and what may help.
  [[noreturn]] void refuse(const ClientResponse& response, std::string_view doing) const;

  // By S3's own clock, as that answer tells it.
  Timestamp time_of(const ClientResponse& response) const;

 private:
  std::string sign(const S3Request& request, const std::string& path, const std::string& query) const;
  bool follow_clock(const ClientResponse& response);
  // What a request came to. No exception goes from one thread to the other.
  struct Outcome {
    ClientResponse response = {};
    std::optional<std::string> failure = {};  // of a StorageAway
  };
  Task<> answer(S3Request request, std::promise<Outcome> done);
  Task<> finish();

  const S3Options options_;
  const Endpoint endpoint_;
  asio::io_context loop_{1};
  SystemClock clock_{loop_};
  HttpClient http_;
  TaskGroup tasks_{loop_}, finishing_{loop_};
  std::minstd_rand random_{std::random_device{}()};
  bool away_ = false;  // the last one that was tried again and again failed
  Millis skew_{0};     // what S3's clock is ahead of ours
  std::mutex mutex_;
  bool closed_ = false;  // protected by it; all above belongs to the loop
  std::thread thread_;
};

// "Sun, 06 Nov 1994 08:49:37 GMT" and "2009-10-12T17:50:30.000Z"; nothing when it is malformed.
std::optional<Timestamp> parse_http_date(std::string_view text);
std::optional<Timestamp> parse_iso_date(std::string_view text);

}  // namespace penstock
