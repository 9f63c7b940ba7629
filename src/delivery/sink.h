#pragma once
#include <boost/asio/ip/address.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "delivery/results.h"
#include "delivery/sender.h"
#include "model/line_mapping.h"
#include "net/endpoint.h"

namespace penstock {

// Lines go to a URL in groups, as one POST each, or whole files by PUT to URL/BATCH_ID/output.jsonl and errors.jsonl.
struct HttpSinkOptions {
  CallUrl url;
  std::map<std::string, std::string> headers = {};
  bool files = false;
  std::size_t lines_per_request = 100;
  // A group is a JSON array of such objects; none: it is the lines themselves.
  std::vector<LineMapping::Field> fields = {};
  std::function<bool(const asio::ip::address&)> admit = {};  // as in HttpClient::Options
};

// Files become the objects PREFIX/BATCH_ID/output.jsonl and errors.jsonl.
struct S3SinkOptions {
  std::string url;  // s3://bucket/prefix
};

// Each line becomes a row, in the place of one that has the same key.
struct PostgresSinkOptions {
  std::string url, table;                        // "table" or "schema.table"
  std::vector<LineMapping::Field> columns = {};  // without fields of their own
  std::vector<std::string> key = {};             // some of the columns, on which the table has a unique index
};

// A program of the operator's reads all lines on its standard input. It has taken them when it ends with exit code 0.
struct CommandSinkOptions {
  std::vector<std::string> command;
  std::chrono::seconds timeout{600};
};

// What the operator has configured by that name.
struct SinkOptions {
  std::string name;
  bool output = true, errors = true;  // which files it gets
  std::variant<HttpSinkOptions, S3SinkOptions, PostgresSinkOptions, CommandSinkOptions> to;
};

// One attempt to bring results to a sink. They have been brought up to `delivery.position`.
struct SinkAttempt {
  const Delivery& delivery;
  std::shared_ptr<const Results> results;
  DeliveryProgress& progress;
};

// One receiver of results. Loop thread only. What an attempt waits for has limits; blocking work is done on the pool
// that was given to the factory. What bring() throws counts as a failure that may pass.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual Task<Outcome> bring(const SinkAttempt& attempt) = 0;
  // When no bring() is under way any more.
  virtual Task<> stop() { co_return; }
};

std::unique_ptr<Sink> make_http_sink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool,
                                     HttpSinkOptions options);
// Throws UsageError when there are no credentials.
std::unique_ptr<Sink> make_s3_sink(asio::thread_pool& pool, const S3SinkOptions& options,
                                   const std::string& scratch_directory);
std::unique_ptr<Sink> make_postgres_sink(asio::thread_pool& pool, PostgresSinkOptions options);
// `log`: the path of a file for what the program prints.
std::unique_ptr<Sink> make_command_sink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool,
                                        CommandSinkOptions options, std::string log);

// For an attempt that its progress has ended; nobody looks at it.
inline Outcome broken_off() {
  return {.kind = Outcome::Kind::again, .why = "the attempt was broken off"};
}

}  // namespace penstock
