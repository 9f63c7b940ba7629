#include "delivery/webhook.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "net/http_server.h"
#include "store/outbox.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

using namespace std::chrono_literals;
using Kind = Outcome::Kind;

const std::string kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

TEST(WebhookSignature, IsThatOfStandardWebhooks) {
  WebhookCall call{"", "msg_p5jXN8AQM9LWM0D4loKWxJek", R"({"test": 2432232314})", {kSecret}};
  const std::string expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";  // its own example
  EXPECT_EQ(webhook_signature(call, 1614265330), expected);
  call.secrets = {"plain", kSecret};
  const std::string both = webhook_signature(call, 1614265330);
  EXPECT_TRUE(both.starts_with("v1,") && both.ends_with(" " + expected)) << both;
}

TEST(WebhookSecret, IsTextOrBase64BehindItsPrefix) {
  for (const char* good : {"x", "plain text", "whsec_AA==", "whsec_AAA=", "whsec_AAAA", kSecret.c_str()}) {
    EXPECT_TRUE(is_webhook_secret(good)) << good;
  }
  for (const char* bad : {"", "whsec_", "whsec_A", "whsec_A===", "whsec_====", "whsec_no base", "whsec_AA=A"}) {
    EXPECT_FALSE(is_webhook_secret(bad)) << bad;
  }
  EXPECT_TRUE(is_webhook_secret(new_webhook_secret()));
  EXPECT_NE(new_webhook_secret(), new_webhook_secret());
}

TEST(WebhookUrl, WhatCanNeverBeCalledIsRefusedAtOnce) {
  const AllowList none, some = AllowList::parse({"10.0.0.0/8", "hooks.internal"}).value();
  for (const char* url :
       {"https://example.com/a?b=c", "http://localhost/", "http://8.8.8.8", "http://[2606:4700::1]/"}) {
    EXPECT_TRUE(check_webhook_url(url, none, "url")) << url;
  }
  for (const char* url : {"", "example.com", "unix:/run/x", "https://", "http://127.0.0.1/", "http://10.0.0.1:99/a",
                          "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"}) {
    const auto checked = check_webhook_url(url, none, "url");
    ASSERT_FALSE(checked) << url;
    EXPECT_EQ(checked.error().param, "url");
  }
  EXPECT_TRUE(check_webhook_url("http://10.0.0.1:99/a", some, "url"));
  EXPECT_FALSE(check_webhook_url("http://192.168.0.1/", some, "url"));
}

TEST(WebhookEndpoints, AnOldSecretSignsUntilItsTimeIsOver) {
  WebhookEndpoint endpoint;
  endpoint.secret = "new";
  const Timestamp now{Millis(1'000)};
  EXPECT_EQ(secrets_of(endpoint, now), std::vector<std::string>{"new"});
  endpoint.old_secret = "old";
  endpoint.old_secret_until = now;
  EXPECT_EQ(secrets_of(endpoint, now - 1ms), (std::vector<std::string>{"new", "old"}));
  EXPECT_EQ(secrets_of(endpoint, now), std::vector<std::string>{"new"});
}

// A receiver on loopback.
class WebhookTest : public testing::Test {
 protected:
  WebhookTest() {
    log::set_level(log::Level::off);
    server.listen();
    serving.spawn("server", server.run());
  }
  ~WebhookTest() override {
    silent.notify();
    run_task(loop, server.stop(0ms));
    serving.cancel();
    EXPECT_TRUE(run_until(loop, [&] { return serving.size() == 0; }));
    log::set_level(log::Level::info);
  }

  Task<Response> handle(Request& request) {
    ++requests;
    for (const auto& [name, value] : request.headers) headers[name] = value;
    body = co_await read_all(*request.body, 1 << 20);
    if (is_silent) co_await silent.wait();
    Response response;
    response.status = status;
    if (retry_after) response.headers.add("Retry-After", *retry_after);
    response.body = std::string(100'000, 'x');
    co_return response;
  }
  WebhookCall call_of(const std::string& host = "127.0.0.1") {
    return {fmt::format("http://{}:{}/hook", host, server.port()), "wh_1", "{}", {kSecret}};
  }
  WebhookAnswer post(const WebhookCall& call) { return run_task(loop, post_webhook(loop, clock, allow, call)); }
  Outcome answer(int code, std::optional<std::string> later = std::nullopt) {
    status = code;
    retry_after = std::move(later);
    return post(call_of()).outcome;
  }

  asio::io_context loop;
  FakeClock clock{loop};
  HttpServer server{loop, clock, HttpServer::Options{.port = 0}, [this](Request& request) { return handle(request); }};
  TaskGroup serving{loop};
  AllowList allow = AllowList::parse({"127.0.0.1"}).value();
  int requests = 0, status = 200;
  bool is_silent = false;
  Event silent{loop};
  std::optional<std::string> retry_after;
  std::map<std::string, std::string> headers;
  std::string body;
};

TEST_F(WebhookTest, AnyGoodStatusAcknowledgesAndNoOther) {
  for (const int good : {200, 201, 204, 299}) EXPECT_EQ(answer(good).kind, Kind::delivered) << good;
  for (const int bad : {301, 302, 307, 400, 404, 429, 500, 503}) EXPECT_EQ(answer(bad).kind, Kind::again) << bad;
  EXPECT_EQ(answer(410).kind, Kind::gone);
  EXPECT_EQ(answer(500).why, "answered 500");
}

TEST_F(WebhookTest, ItSaysWhenTheEventIsSentAndSignsThat) {
  EXPECT_EQ(post(call_of()).status, 200);
  EXPECT_EQ(body, "{}");
  EXPECT_EQ(headers["webhook-id"], "wh_1");
  const auto now = std::chrono::floor<std::chrono::seconds>(clock.now()).time_since_epoch().count();
  EXPECT_EQ(headers["webhook-timestamp"], std::to_string(now));
  EXPECT_EQ(headers["webhook-signature"], webhook_signature(call_of(), now));
  headers.clear();
  WebhookCall call = call_of();
  call.secrets.clear();
  post(call);
  EXPECT_FALSE(headers.contains("webhook-signature"));
}

TEST_F(WebhookTest, AReceiverSaysWhenToComeAgain) {
  EXPECT_EQ(answer(503, "7").retry_after, Millis(7s));
  EXPECT_EQ(answer(503, "soon").retry_after, std::nullopt);
  EXPECT_EQ(answer(503, "-7").retry_after, std::nullopt);
  EXPECT_EQ(answer(503).retry_after, std::nullopt);
}

TEST_F(WebhookTest, AnAnswerIsWaitedForFifteenSeconds) {
  is_silent = true;
  std::optional<WebhookAnswer> given;
  std::exception_ptr failure;
  TaskGroup group(loop);
  const WebhookCall call = call_of();
  group.spawn("call", keep_result(post_webhook(loop, clock, allow, call), given, failure));
  ASSERT_TRUE(run_until(loop, [&] { return requests == 1; }));
  clock.advance(14s);
  poll(loop);
  EXPECT_FALSE(given);
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(100ms);
    return given.has_value();
  }));
  EXPECT_EQ(given->outcome.kind, Kind::again);
  EXPECT_EQ(given->outcome.why, "did not answer within 15 s");
  ASSERT_TRUE(run_until(loop, [&] { return group.size() == 0; }));
}

TEST_F(WebhookTest, OnlyPublicAddressesAreCalledAndThoseThatAreAllowed) {
  allow = AllowList();
  for (const char* host : {"127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"}) {
    const WebhookAnswer refused = post(call_of(host));
    EXPECT_EQ(refused.outcome.kind, Kind::never) << host;
    EXPECT_EQ(refused.outcome.why, "its address is not public") << host;
  }
  EXPECT_EQ(requests, 0);
  allow = AllowList::parse({"localhost"}).value();
  EXPECT_EQ(post(call_of("localhost")).outcome.kind, Kind::delivered);
  EXPECT_EQ(post(call_of()).outcome.kind, Kind::never);
}

TEST_F(WebhookTest, WhoDoesNotListenIsTriedAgain) {
  WebhookCall call = call_of();
  call.url = "http://127.0.0.1:1/";
  EXPECT_EQ(post(call).outcome.kind, Kind::again);
  EXPECT_EQ(post(call).outcome.why, "could not be connected to");
}

}  // namespace
}  // namespace penstock
