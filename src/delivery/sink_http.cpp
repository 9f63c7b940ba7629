#include <fmt/format.h>

#include "delivery/schedule.h"
#include "delivery/sink.h"
#include "net/http_client.h"

namespace penstock {
namespace {

constexpr Millis kTimeout{60'000};                   // for a group
constexpr std::uint64_t kBytesPerSecond = 64 << 10;  // of a file, at least
constexpr std::size_t kGroupSize = 1 << 20;          // many may be under way
constexpr std::size_t kReadSize = 256 << 10;

// One of the files.
class PartSource : public ByteSource {
 public:
  PartSource(asio::thread_pool& pool, std::shared_ptr<const Results> results, const Results::Part& part)
      : pool_(pool), results_(std::move(results)), at_(part.begin), end_(part.end) {}

  Task<std::string_view> next() override {
    buffer_.clear();
    if (at_ == end_) co_return std::string_view();
    buffer_ = co_await blocking(pool_, [this] { return results_->bytes(at_, kReadSize); });
    at_ += buffer_.size();
    co_return buffer_;
  }

 private:
  asio::thread_pool& pool_;
  const std::shared_ptr<const Results> results_;
  std::uint64_t at_;
  const std::uint64_t end_;
  std::string buffer_;
};

Outcome outcome_of(const boost::system::result<ClientResponse, SendFailure>& sent) {
  if (!sent) {
    const bool late = sent.error().kind == SendFailure::Kind::timeout;
    return {.kind = Outcome::Kind::again, .why = late ? "it did not answer in time" : "it could not be reached"};
  }
  if (sent->status >= 200 && sent->status < 300) return {};
  return {.kind = Outcome::Kind::again,
          .why = fmt::format("it answered with status {}", sent->status),
          .retry_after = retry_after(sent->headers)};
}

class HttpSink final : public Sink {
 public:
  HttpSink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool, HttpSinkOptions options)
      : loop_(loop), clock_(clock), pool_(pool), options_(std::move(options)) {}

  Task<Outcome> bring(const SinkAttempt& attempt) override {
    const HttpClient::Options options{.body_size_max = 1024, .admit = options_.admit, .status_suffices = true};
    HttpClient client(loop_, clock_, options_.url.endpoint, options);
    if (options_.files) co_return co_await bring_files(client, attempt);
    co_return co_await bring_lines(client, attempt);
  }

 private:
  Task<Outcome> bring_lines(HttpClient& client, const SinkAttempt& attempt) {
    std::optional<LineMapping> mapping;
    if (!options_.fields.empty()) mapping.emplace(LineMapping::make(options_.fields).value());
    auto position = static_cast<std::uint64_t>(attempt.delivery.position);
    while (position < attempt.results->size()) {
      std::size_t size = 0;
      const std::string body =
          co_await blocking(pool_, [&] { return group(*attempt.results, position, mapping, size); });
      const std::string headers =
          header_lines(attempt, position, mapping ? "application/json" : "application/x-ndjson");
      const ClientRequest request{.method = "POST", .target = options_.url.target, .headers = headers, .body = body};
      Outcome outcome = outcome_of(co_await client.send(request, kTimeout));
      if (outcome.kind != Outcome::Kind::delivered) co_return outcome;
      position += size;
      const bool goes_on = co_await attempt.progress.note(static_cast<std::int64_t>(position));
      if (!goes_on) co_return broken_off();
    }
    co_return Outcome{};
  }

  // The body of a request; `size`: of the lines in it.
  std::string group(const Results& results, std::uint64_t position, std::optional<LineMapping>& mapping,
                    std::size_t& size) const {
    std::string lines = results.lines(position, options_.lines_per_request, kGroupSize);
    size = lines.size();
    if (!mapping) return lines;
    std::string body;
    for (const std::string_view line : split_into_lines(lines)) {
      body += body.empty() ? '[' : ',';
      mapping->append(body, line);
    }
    return body += ']';
  }

  Task<Outcome> bring_files(HttpClient& client, const SinkAttempt& attempt) {
    for (const Results::Part& part : attempt.results->parts()) {
      const auto position = static_cast<std::uint64_t>(attempt.delivery.position);
      if (position >= part.end) continue;
      PartSource source(pool_, attempt.results, part);
      const std::string headers = header_lines(attempt, part.begin, "application/x-ndjson");
      const std::string target =
          fmt::format("{}{}{}/{}", options_.url.target, options_.url.target.ends_with('/') ? "" : "/",
                      attempt.delivery.batch_id.value, part.name);
      const ClientRequest request{.method = "PUT",
                                  .target = target,
                                  .headers = headers,
                                  .body = {},
                                  .stream = &source,
                                  .stream_size = part.end - part.begin};
      const Millis timeout = kTimeout + std::chrono::seconds(request.stream_size / kBytesPerSecond);
      Outcome outcome = outcome_of(co_await client.send(request, timeout));
      if (outcome.kind != Outcome::Kind::delivered) co_return outcome;
      const bool goes_on = co_await attempt.progress.note(static_cast<std::int64_t>(part.end));
      if (!goes_on) co_return broken_off();
    }
    co_return Outcome{};
  }

  std::string header_lines(const SinkAttempt& attempt, std::uint64_t position, std::string_view type) const {
    std::string lines = fmt::format("Idempotency-Key: {}-{}\r\nPenstock-Batch-Id: {}\r\n", attempt.delivery.id.value,
                                    position, attempt.delivery.batch_id.value);
    Headers headers;
    for (const auto& [name, value] : options_.headers) {
      lines += fmt::format("{}: {}\r\n", name, value);
      headers.add(name, value);
    }
    if (!headers.find("content-type")) lines += fmt::format("Content-Type: {}\r\n", type);
    return lines;
  }

  asio::io_context& loop_;
  Clock& clock_;
  asio::thread_pool& pool_;
  const HttpSinkOptions options_;
};

}  // namespace

std::unique_ptr<Sink> make_http_sink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool,
                                     HttpSinkOptions options) {
  return std::make_unique<HttpSink>(loop, clock, pool, std::move(options));
}

}  // namespace penstock
