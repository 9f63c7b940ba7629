#include "client/server.h"

#include <fmt/format.h>

#include <set>

#include "base/exit_codes.h"
#include "base/random.h"
#include "client/table.h"

namespace penstock {
namespace {

constexpr Millis kPatience{60'000};      // for one answer
constexpr Millis kAwayMax{10 * 60'000};  // of a server, until we give up
constexpr Millis kPauseMin{250}, kPauseMax{10'000};
constexpr std::uint64_t kSlowest = 32;  // bytes a millisecond that an upload is expected to get through at least

// What a server says that will be better in a while.
const std::set<std::string> kPassing = {"draining", "database_away", "storage_away", "rate_limit_exceeded"};

json::object parse_object(const std::string& body) {
  boost::system::error_code error;
  json::value value = json::parse(body, error);
  return !error && value.is_object() ? std::move(value.get_object()) : json::object();
}

HttpClient::Options options_of(const Target& target) {
  return {.ca_file = target.ca_file};
}

}  // namespace

Server::Server(asio::io_context& loop, Clock& clock, const Target& target)
    : target_(target), clock_(clock), client_(loop, clock, target.endpoint, options_of(target)), pause_(kPauseMin) {}

std::string Server::headers(std::string_view more) const {
  std::string all(more);
  if (!target_.key.empty()) all += fmt::format("Authorization: Bearer {}\r\n", target_.key);
  return all;
}

Server::Failed Server::failed(const Sent& sent) const {
  if (!sent) {
    const bool never_there = !met_ && sent.error().kind == SendFailure::Kind::connect;
    std::string message = sent.error().message;
    if (message.find("certificate") != std::string::npos) {
      message += "; name the file of the authority to trust as ca_file in a profile, or in SSL_CERT_FILE";
    } else if (never_there) {
      message += "; is `penstock serve` running there? --url, --profile or PENSTOCK_URL name another server";
    }
    return {std::move(message), kExitUnreachable, !never_there};
  }
  const json::object body = parse_object(sent->body);
  const json::object& error = object(body, "error");
  std::string message = shown(text(error, "message"));
  if (message.empty()) message = fmt::format("{} answered with status {}", target_.url, sent->status);
  if (sent->status == 401) message += " Put a key into PENSTOCK_API_KEY or a profile.";
  const bool gateway = met_ && error.empty() && (sent->status == 502 || sent->status == 503 || sent->status == 504);
  return {std::move(message), kExitRefused, gateway || kPassing.contains(text(error, "code"))};
}

Task<> Server::try_again(const Sent& sent) {
  const Failed failure = failed(sent);
  const Moment now = clock_.monotonic();
  if (!away_since_) away_since_ = now;
  if (!failure.passes || now - *away_since_ >= kAwayMax) throw CommandFailure(failure.exit_code, failure.message);
  if (on_trouble) on_trouble(failure.message);
  co_await sleep_until(clock_, now + pause_);
  pause_ = std::min(2 * pause_, kPauseMax);
}

void Server::is_well() {
  met_ = true;
  if (away_since_ && on_trouble) on_trouble("");
  away_since_.reset();
  pause_ = kPauseMin;
}

Task<json::object> Server::get(std::string path) {
  json::object object = co_await insist("GET", path, headers(), "");
  co_return object;
}

Task<json::object> Server::post_once(std::string path, std::string body) {
  const std::string key = fmt::format("Content-Type: application/json\r\nIdempotency-Key: {}\r\n", random_id("cli_"));
  json::object object = co_await insist("POST", path, headers(key), body);
  co_return object;
}

Task<json::object> Server::insist(std::string method, std::string path, std::string own, std::string body) {
  while (true) {
    const ClientRequest request{.method = method, .target = path, .headers = own, .body = body};
    const Sent sent = co_await client_.send(request, kPatience);
    if (sent && sent->status < 300) {
      is_well();
      co_return parse_object(sent->body);
    }
    co_await try_again(sent);
  }
}

Task<json::object> Server::send(std::string method, std::string path) {
  const std::string own = headers();
  const ClientRequest request{.method = method, .target = path, .headers = own, .body = {}};
  const Sent sent = co_await client_.send(request, kPatience);
  if (!sent || sent->status >= 300) {
    const Failed failure = failed(sent);
    throw CommandFailure(failure.exit_code, failure.message);
  }
  is_well();
  co_return parse_object(sent->body);
}

Task<json::object> Server::upload(std::function<Upload()> begin) {
  const std::string key = fmt::format("Idempotency-Key: {}\r\n", random_id("cli_"));
  while (true) {
    const Upload upload = begin();
    const std::string own = headers(key + upload.headers);
    const ClientRequest request{.method = "POST",
                                .target = "/v1/files",
                                .headers = own,
                                .body = {},
                                .stream = upload.source.get(),
                                .stream_size = upload.size};
    const Sent sent = co_await client_.send(request, kPatience + Millis(upload.size / kSlowest));
    if (sent && sent->status < 300) {
      is_well();
      co_return parse_object(sent->body);
    }
    co_await try_again(sent);
  }
}

Task<> Server::follow(std::function<Asked()> ask, std::function<void(std::string_view)> take, Millis silence_max) {
  const std::function<void(std::string_view)> pass_on = [&](std::string_view piece) {
    is_well();
    take(piece);
  };
  while (true) {
    const Asked asked = ask();
    const std::string own = headers(asked.headers);
    const ClientRequest request{.method = "GET", .target = asked.path, .headers = own, .body = {}, .on_piece = pass_on};
    const Sent sent = co_await client_.send(request, silence_max);
    if (sent && sent->status < 300) {
      is_well();
      co_return;
    }
    co_await try_again(sent);
  }
}

}  // namespace penstock
