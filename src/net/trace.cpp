#include "net/trace.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"
#include "base/json_text.h"
#include "base/log.h"
#include "base/random.h"

namespace penstock {
namespace {

constexpr Millis kWait{1'000};  // for further spans to be sent with the first
constexpr Millis kTimeout{10'000}, kRetryFirst{1'000}, kRetryMax{30'000}, kRetryFor{120'000};
constexpr std::size_t kTraceIdSize = 32, kSpanIdSize = 16;
constexpr std::uint32_t kShares = 1 << 24;

bool is_id(std::string_view text, std::size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         text.find_first_not_of('0') != std::string_view::npos;
}

void append_attribute(std::string& out, std::string_view key, const Span::Value& value) {
  out += R"({"key":)";
  append_json_string(out, key);
  // JSON's numbers would lose digits: hence the text.
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    out += fmt::format(R"(,"value":{{"intValue":"{}"}}}})", *number);
  } else {
    out += R"(,"value":{"stringValue":)";
    append_json_string(out, std::get<std::string>(value));
    out += "}}";
  }
}

std::int64_t nanoseconds(Timestamp time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

std::string to_json(const Span& span) {
  std::string out = fmt::format(R"({{"traceId":"{}","spanId":"{}")", span.context.trace_id, span.context.span_id);
  if (!span.parent_id.empty()) out += fmt::format(R"(,"parentSpanId":"{}")", span.parent_id);
  out += R"(,"name":)";
  append_json_string(out, span.name);
  out += fmt::format(R"(,"kind":{},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":[)",
                     static_cast<int>(span.kind), nanoseconds(span.start), nanoseconds(span.end));
  for (const auto& [key, value] : span.attributes) {
    if (out.back() == '}') out += ',';
    append_attribute(out, key, value);
  }
  out += ']';
  if (span.error) {
    out += R"(,"status":{"code":2,"message":)";
    append_json_string(out, *span.error);
    out += '}';
  }
  out += '}';
  return out;
}

// Whether the collector may take the same later.
bool is_passing(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view header) {
  // 00-TRACE-SPAN-FLAGS; later versions may go on after another '-'.
  constexpr std::size_t kSize = 55;
  if (header.size() < kSize || header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  const std::string_view version = header.substr(0, 2), trace = header.substr(3, kTraceIdSize),
                         span = header.substr(36, kSpanIdSize), flags = header.substr(53, 2);
  const bool is_known = version == "00";
  if (version == "ff" || (is_known ? header.size() != kSize : header.size() > kSize && header[kSize] != '-')) {
    return std::nullopt;
  }
  const auto is_hex = [](std::string_view text) {
    return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  };
  if (!is_hex(version) || !is_hex(flags) || !is_id(trace, kTraceIdSize) || !is_id(span, kSpanIdSize)) {
    return std::nullopt;
  }
  const char low = flags[1];
  const int digit = low <= '9' ? low - '0' : low - 'a' + 10;
  return TraceContext{std::string(trace), std::string(span), (digit & 1) != 0};
}

std::string to_string(const TraceContext& context) {
  return fmt::format("00-{}-{}-{}", context.trace_id, context.span_id, context.sampled ? "01" : "00");
}

std::string trace_id_of(std::string_view words) {
  StreamHash hash;
  hash.add("trace ");
  hash.add(words);
  return hash.hex();
}

std::string span_id_of(std::string_view words) {
  StreamHash hash;
  hash.add("span ");
  hash.add(words);
  return hash.hex().substr(0, kSpanIdSize);
}

std::string random_span_id() {
  return random_id("").substr(0, kSpanIdSize);
}

Tracer::Tracer(asio::io_context& loop, Clock& clock, Options options)
    : clock_(clock),
      options_(std::move(options)),
      client_(loop, clock, options_.endpoint, {.body_size_max = 64 << 10, .status_suffices = true}),
      added_(loop),
      tasks_(loop) {}

void Tracer::start() {
  tasks_.keep("sending spans", clock_, [this] { return run(); });
}

bool Tracer::traces_line(std::string_view batch, std::uint32_t index) const {
  if (options_.lines <= 0) return false;
  StreamHash hash;
  hash.add(batch);
  hash.add({reinterpret_cast<const char*>(&index), sizeof index});
  const auto share = static_cast<std::uint32_t>(std::stoul(hash.hex().substr(0, 6), nullptr, 16));
  return share < options_.lines * kShares;
}

void Tracer::add(const Span& span) {
  if (!span.context.sampled) return;
  if (queue_.size() >= kQueueMax) {
    ++totals_.dropped;
    return;
  }
  queue_.push_back(to_json(span));
  if (queue_.size() == 1 || queue_.size() == kBatchMax) added_.notify();
}

Task<> Tracer::run() {
  while (true) {
    while (queue_.empty()) co_await added_.wait();
    const Moment soon = clock_.monotonic() + kWait;
    while (queue_.size() < kBatchMax) {
      const bool more = co_await added_.wait_until(clock_, soon);
      if (!more) break;
    }
    const Moment until = clock_.monotonic() + kRetryFor;
    co_await send_some(until);
  }
}

Task<> Tracer::send_some(Moment until) {
  const std::size_t count = std::min(queue_.size(), kBatchMax);
  std::string body = R"({"resourceSpans":[{"resource":{"attributes":[)";
  append_attribute(body, "service.name", "penstock");
  body += ',';
  append_attribute(body, "service.version", PENSTOCK_VERSION);
  body += ',';
  append_attribute(body, "service.instance.id", options_.process);
  body += R"(]},"scopeSpans":[{"scope":{"name":"penstock"},"spans":[)";
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) body += ',';
    body += queue_[i];
  }
  body += "]}]}]}";
  const ClientRequest request{"POST", "/v1/traces", "Content-Type: application/json\r\n", body};
  Millis pause = kRetryFirst;
  std::string why;
  while (true) {
    const Millis timeout = std::clamp(until - clock_.monotonic(), Millis{1}, kTimeout);
    const auto response = co_await client_.send(request, timeout);
    if (response && response->status / 100 == 2) {
      totals_.exported += static_cast<std::int64_t>(count);
      if (std::exchange(is_away_, false)) log::info("the collector of traces takes spans again");
      break;
    }
    why = response ? fmt::format("it answered {}", response->status) : response.error().message;
    if (!std::exchange(is_away_, true)) log::warn("the collector of traces takes no spans: {}", why);
    const bool may_pass = !response || is_passing(response->status);
    if (!may_pass || clock_.monotonic() + pause >= until) {
      totals_.dropped += static_cast<std::int64_t>(count);
      break;
    }
    co_await sleep_until(clock_, clock_.monotonic() + pause);
    pause = std::min(2 * pause, kRetryMax);
  }
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
}

Task<> Tracer::stop(Millis patience) {
  tasks_.cancel();
  co_await tasks_.join();
  const Moment until = clock_.monotonic() + patience;
  while (!queue_.empty() && clock_.monotonic() < until) co_await send_some(until);
}

}  // namespace penstock
