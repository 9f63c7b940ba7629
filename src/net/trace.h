#pragma once
#include <deque>
#include <variant>

#include "net/http_client.h"

// Traces, as W3C Trace Context passes them on and OpenTelemetry collects them.
namespace penstock {

// Which span something is a part of.
struct TraceContext {
  std::string trace_id;  // 32 hexadecimal digits in lower case
  std::string span_id;   // 16
  bool sampled = true;

  bool operator==(const TraceContext&) const = default;
};

// Nothing for what is no `traceparent`; one of a later version is read as this one.
std::optional<TraceContext> parse_traceparent(std::string_view header);
std::string to_string(const TraceContext& context);

// Ids that are the same whoever makes them of the same words, in another process or after a restart.
std::string trace_id_of(std::string_view words);
std::string span_id_of(std::string_view words);
std::string random_span_id();

// What took some time. Attributes hold nothing of a client's: no prompt, answer, custom_id or key.
struct Span {
  enum class Kind { internal = 1, server = 2, client = 3 };  // as OTLP numbers them
  using Value = std::variant<std::int64_t, std::string>;

  TraceContext context;
  std::string parent_id;  // empty: the first of its trace
  std::string name;
  Kind kind = Kind::internal;
  Timestamp start{}, end{};
  std::vector<std::pair<std::string_view, Value>> attributes = {};
  std::optional<std::string> error = {};  // that it failed, and perhaps why
};

// Sends spans to a collector, as JSON over HTTP (OTLP 1.x), 512 at a time and each within about a second. What a
// collector that is away or slow leaves to wait is bounded, and what is too much is dropped and counted. Loop thread
// only.
class Tracer {
 public:
  static constexpr std::size_t kQueueMax = 8192, kBatchMax = 512;

  struct Options {
    Endpoint endpoint;    // spans go to /v1/traces there
    std::string process;  // this one's name
    double lines = 0;     // the share of lines that are traced
  };
  Tracer(asio::io_context& loop, Clock& clock, Options options);

  void start();
  // Sends what there is, within `patience`.
  Task<> stop(Millis patience);

  // The same lines of a batch are traced by whoever runs them.
  bool traces_line(std::string_view batch, std::uint32_t index) const;
  void add(const Span& span);

  struct Totals {
    std::int64_t exported = 0, dropped = 0;
  };
  const Totals& totals() const { return totals_; }

 private:
  Task<> run();
  // What is at the front of the queue; it is gone then, one way or another.
  Task<> send_some(Moment until);

  Clock& clock_;
  const Options options_;
  HttpClient client_;
  std::deque<std::string> queue_;  // spans as JSON
  Totals totals_;
  bool is_away_ = false;
  Event added_;
  TaskGroup tasks_;
};

}  // namespace penstock
