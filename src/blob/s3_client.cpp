#include "blob/s3_client.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>

#include "base/log.h"
#include "base/sha256.h"
#include "blob/xml.h"

namespace penstock {
namespace {

constexpr Millis kCloseMax{5'000};
constexpr Millis kSkewMax{60'000};  // S3 refuses more than 15 minutes
constexpr std::size_t kAnswerMax = 16 << 20;
constexpr const char* kClosed = "S3 is not asked any more";

std::optional<Timestamp> parse_date(std::string_view text, const char* format) {
  tm parts{};
  if (!::strptime(std::string(text).c_str(), format, &parts)) return std::nullopt;
  return Timestamp(std::chrono::seconds(::timegm(&parts)));
}

// What S3 says in the body of an answer that reports an error: a word of its own, and one for people.
struct Complaint {
  std::string code, message;
};
Complaint complaint(const ClientResponse& response) {
  try {
    const XmlElement root = parse_xml(response.body);
    if (root.name == "Error") return {std::string(root.value("Code")), std::string(root.value("Message"))};
  } catch (const std::runtime_error&) {
    // a HEAD has no body, and a proxy speaks HTML
  }
  return {};
}

// S3 API Reference, "Error responses"; a CompleteMultipartUpload may begin with 200 and end with an error.
bool may_pass(const S3Request& request, const ClientResponse& response) {
  const int status = response.status;
  if (status == 429 || status == 500 || status == 502 || status == 503 || status == 504) return true;
  if (status == 400) return complaint(response).code == "RequestTimeout";
  return status == 200 && request.method == "POST" && !complaint(response).code.empty();
}

std::string words(const ClientResponse& response) {
  const auto [code, message] = complaint(response);
  return fmt::format("{}{}{}{}{}", response.status, code.empty() ? "" : " ", code, message.empty() ? "" : ": ",
                     message);
}

}  // namespace

std::optional<Timestamp> parse_http_date(std::string_view text) {
  return parse_date(text, "%a, %d %b %Y %H:%M:%S GMT");
}

std::optional<Timestamp> parse_iso_date(std::string_view text) {
  return parse_date(text, "%Y-%m-%dT%H:%M:%S");
}

S3Client::S3Client(const S3Options& options)
    : options_(options),
      endpoint_(Endpoint::parse(options.endpoint).value()),
      http_(loop_, clock_, endpoint_, {.body_size_max = kAnswerMax}),
      thread_([this] {
        const auto more = asio::make_work_guard(loop_);
        loop_.run();
      }) {}

S3Client::~S3Client() {
  close();
}

void S3Client::close() {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
  }
  asio::post(loop_, [this] { finishing_.spawn("the end of S3", finish()); });
  thread_.join();
}

Task<> S3Client::finish() {
  const bool ended = co_await tasks_.join_until(clock_, clock_.monotonic() + kCloseMax);
  if (!ended) tasks_.cancel();
  co_await tasks_.join();
  http_.close_idle();
  loop_.stop();
}

void S3Client::spawn(Task<> task) {
  const std::lock_guard lock(mutex_);
  if (closed_) throw StorageAway(kClosed);
  asio::post(loop_, [this, task = std::move(task)]() mutable { tasks_.spawn("S3", std::move(task)); });
}

ClientResponse S3Client::send(S3Request request) {
  request.body_sha256 = sha256_hex(request.body);  // here, not on the loop
  std::promise<Outcome> done;
  auto answered = done.get_future();
  spawn(answer(std::move(request), std::move(done)));
  Outcome outcome = answered.get();
  if (outcome.failure) throw StorageAway(*outcome.failure);
  return std::move(outcome.response);
}

Task<> S3Client::answer(S3Request request, std::promise<Outcome> done) {
  Outcome outcome;
  try {
    outcome.response = co_await ask(std::move(request));
  } catch (const std::exception& e) {
    outcome.failure = is_cancelled(e) ? kClosed : e.what();
  }
  done.set_value(std::move(outcome));
}

Task<ClientResponse> S3Client::ask(S3Request request) {
  if (request.body_sha256.empty()) request.body_sha256 = sha256_hex(request.body);
  std::string path = options_.path_style ? "/" + options_.bucket : "";
  if (!request.key.empty() || path.empty()) path += "/" + request.key;
  path = uri_encode(path, true);
  const std::string query = canonical_query(request.query);
  const std::string target = query.empty() ? path : path + "?" + query;
  const Moment give_up = clock_.monotonic() + options_.patience;
  Millis pause = options_.patience / 64;
  bool followed = false;
  for (int tries = 1;; ++tries) {
    const std::string headers = sign(request, path, query);
    const ClientRequest wire{.method = request.method, .target = target, .headers = headers, .body = request.body};
    auto sent = co_await http_.send(wire, request.timeout);
    if (sent && sent->status == 403 && !followed && follow_clock(*sent)) {
      followed = true;
      continue;
    }
    if (sent && !may_pass(request, *sent)) {
      away_ = false;
      co_return std::move(*sent);
    }
    const Millis wait{std::uniform_int_distribution<long>(pause.count() / 2, pause.count())(random_)};
    if (away_ || (tries > 1 && clock_.monotonic() + wait > give_up)) {
      away_ = true;
      throw StorageAway(fmt::format("S3 at {}: {}", options_.endpoint, sent ? words(*sent) : sent.error().message));
    }
    co_await sleep_until(clock_, clock_.monotonic() + wait);
    pause = std::min(2 * pause, options_.patience / 4);
  }
}

// The request's own header lines and those of the signature.
std::string S3Client::sign(const S3Request& request, const std::string& path, const std::string& query) const {
  const bool usual_port = endpoint_.port == (endpoint_.tls ? "443" : "80") || !endpoint_.unix_path.empty();
  const SigningScope scope{
      .date = fmt::format("{:%Y%m%dT%H%M%S}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(clock_.now() + skew_))),
      .region = options_.region};
  NameValues headers = request.headers;
  headers.emplace_back("x-amz-content-sha256", request.body_sha256);
  headers.emplace_back("x-amz-date", scope.date);
  if (!options_.credentials.session_token.empty()) {
    headers.emplace_back("x-amz-security-token", options_.credentials.session_token);
  }
  std::string lines;
  for (const auto& [name, value] : headers) lines.append(name).append(": ").append(value).append("\r\n");
  headers.emplace_back("host", usual_port ? endpoint_.host : endpoint_.host + ":" + endpoint_.port);
  const std::string whole_path = endpoint_.base_path + path;
  lines += fmt::format("Authorization: {}\r\n", authorization(options_.credentials, scope,
                                                              {.method = request.method,
                                                               .path = whole_path,
                                                               .query = query,
                                                               .headers = std::move(headers),
                                                               .payload_sha256 = request.body_sha256}));
  return lines;
}

// Whether a refusal may come of a wrong clock, S3's or ours; from now on we sign by S3's.
bool S3Client::follow_clock(const ClientResponse& response) {
  const auto text = response.headers.find("date");
  const auto date = text ? parse_http_date(*text) : std::nullopt;
  if (!date || std::chrono::abs(*date - (clock_.now() + skew_)) < kSkewMax) return false;
  skew_ = *date - clock_.now();
  log::warn("S3's clock is {} s ahead of ours; requests are signed by its time", skew_.count() / 1000);
  return true;
}

Timestamp S3Client::time_of(const ClientResponse& response) const {
  const auto text = response.headers.find("date");
  const auto date = text ? parse_http_date(*text) : std::nullopt;
  return date.value_or(clock_.now());
}

void S3Client::refuse(const ClientResponse& response, std::string_view doing) const {
  const std::string code = complaint(response).code;
  const auto region = response.headers.find("x-amz-bucket-region");
  std::string help = "is this the address of S3?";
  if (region && *region != options_.region) {
    help = fmt::format("the bucket is in another region: set AWS_REGION={}", *region);
  } else if (code == "NoSuchBucket" || (response.status == 404 && code.empty())) {
    help = "make the bucket, or mend the address";
  } else if (response.status == 401 || response.status == 403) {
    help = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and whether that key may list, read, write and delete";
  } else if (response.status == 301 || response.status == 307 || response.status == 400) {
    help = "check AWS_REGION and AWS_ENDPOINT_URL_S3";
  }
  throw StorageAway(fmt::format("S3 at {} refused to {} (bucket {}, key id {}, region {}) with {}; {}",
                                options_.endpoint, doing, options_.bucket, options_.credentials.key_id, options_.region,
                                words(response), help));
}

}  // namespace penstock
