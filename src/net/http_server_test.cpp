#include "net/http_server.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <map>
#include <random>

#include "base/log.h"
#include "net/http_client.h"
#include "net/message.h"
#include "testing/http_fixture.h"

// Server and client against each other, and each against plain sockets that say things word by word.
namespace penstock {
namespace {

using asio::ip::tcp;
using Kind = SendFailure::Kind;

// A server of which each connection has a list of replies; "wait" waits for the client to close instead.
class Script {
 public:
  Script(asio::io_context& loop, std::vector<std::vector<std::string>> connections)
      : loop_(loop),
        acceptor_(loop, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        connections_(std::move(connections)) {}

  std::string url() const { return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

  Task<> run() {
    for (const auto& replies : connections_) {
      Peer peer(loop_);
      co_await acceptor_.async_accept(peer.socket, asio::use_awaitable);
      ++accepted;
      for (const auto& reply : replies) {
        requests.push_back(co_await peer.read_until("\r\n\r\n"));
        if (reply == "wait") {
          co_await peer.read_to_end();
          seen_close = true;
        } else {
          co_await peer.send(reply);
        }
      }
    }
  }

  int accepted = 0;
  bool seen_close = false;
  std::vector<std::string> requests;

 private:
  asio::io_context& loop_;
  tcp::acceptor acceptor_;
  std::vector<std::vector<std::string>> connections_;
};

// --- The server ---

using HttpServerTest = Http;

TEST_F(HttpServerTest, AnswersARequestOfTheClient) {
  serve(echo);
  const std::string body(3'000'000, 'x');
  const ClientRequest request{"POST", "/a/b?c=d", "X-Some: thing\r\n", body};
  const Sent sent = run_task(loop, client_of(url() + "/v1/").send(request, kLong));
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_EQ(sent->status, 200);
  EXPECT_EQ(sent->headers.find("x-seen"), "POST /v1/a/b c=d");
  EXPECT_EQ(sent->headers.find("content-length"), "3000000");
  EXPECT_EQ(sent->headers.find("date"), "Tue, 14 Nov 2023 22:13:21 GMT");
  EXPECT_TRUE(sent->body == body);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  serve(echo);
  const std::string answer =
      say("\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
          "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n"
          "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::size_t first = answer.find("\r\n\r\none"), second = answer.find("\r\n\r\ntwo"),
                    third = answer.find("GET /3");
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_NE(third, std::string::npos);
  EXPECT_EQ(count(answer, "HTTP/1.1 200 OK"), 3u);
  EXPECT_EQ(count(answer, "Connection: close"), 1u);
}

TEST_F(HttpServerTest, AnswersAThousandPipelinedRequestsInOrder) {
  serve(hello);
  std::string requests;
  for (int i = 0; i < 1'000; ++i) requests += fmt::format("GET /{}. HTTP/1.1\r\nHost: a\r\n\r\n", i);
  const std::string answer = say(requests + "GET /end HTTP/1.0\r\n\r\n");
  std::size_t at = 0;
  for (int i = 0; i < 1'000 && at != std::string::npos; ++i) at = answer.find(fmt::format("hello /{}.", i), at);
  EXPECT_NE(at, std::string::npos);
  EXPECT_EQ(count(answer, "HTTP/1.1 200 OK"), 1'001u);
}

TEST_F(HttpServerTest, SendsNoBodyInAnswerToHead) {
  serve(hello);
  const std::string answer = say("HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_NE(answer.find("Content-Length: 8\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
}

Task<Response> no_content(Request&) {
  Response response;
  response.status = 204;
  co_return response;
}

TEST_F(HttpServerTest, SendsNeitherBodyNorLengthWith204) {
  serve(no_content);
  const std::string answer = say("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 204 No Content\r\n"));
  EXPECT_EQ(answer.find("Content-Length"), std::string::npos);
}

TEST_F(HttpServerTest, ClosesAfterHttp10) {
  serve(hello);
  EXPECT_TRUE(say("GET /x HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nhello /x"));
}

Task<Response> split_header(Request&) {
  Response response;
  response.headers.add("X-Name", "a\r\nSet-Cookie: b");
  co_return response;
}

TEST_F(HttpServerTest, KeepsAHeaderValueOnItsLine) {
  serve(split_header);
  EXPECT_NE(say("GET / HTTP/1.0\r\n\r\n").find("X-Name: a  Set-Cookie: b\r\n"), std::string::npos);
}

Task<std::string> expect_twice(Peer& peer, std::uint16_t port) {
  co_await peer.connect(port);
  co_await peer.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  std::string seen = co_await peer.read_until("\r\n\r\n");
  co_await peer.send("abcPOST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  seen += co_await peer.read_to_end();
  co_return seen;
}

Task<Response> read_or_refuse(Request& request) {
  Response response;
  if (request.path == "/read") {
    response.body = co_await read_all(*request.body, 100);
  } else {
    response.status = 401;
  }
  co_return response;
}

TEST_F(HttpServerTest, SaysContinueOnlyWhenTheBodyIsWanted) {
  serve(read_or_refuse);
  Peer peer(loop);
  const std::string seen = run_task(loop, expect_twice(peer, server->port()));
  EXPECT_TRUE(seen.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")) << seen;
  EXPECT_EQ(count(seen, "100 Continue"), 1u);
  EXPECT_NE(seen.find("HTTP/1.1 401 Unauthorized"), std::string::npos);
}

TEST_F(HttpServerTest, SaysContinueOnlyToWhomUnderstandsIt) {
  serve(echo);
  const std::string rest = "Expect: 100-Continue\r\nConnection: close\r\n";
  const std::string chunked =
      say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + rest + "\r\n3\r\nabc\r\n0\r\n\r\n");
  EXPECT_TRUE(chunked.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")) << chunked;
  EXPECT_TRUE(chunked.ends_with("\r\n\r\nabc")) << chunked;
  const std::string old = say("POST / HTTP/1.0\r\nContent-Length: 3\r\n" + rest + "\r\nabc");
  EXPECT_TRUE(old.starts_with("HTTP/1.1 200 OK\r\n") && old.ends_with("\r\n\r\nabc")) << old;
  const std::string empty = say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + rest + "\r\n");
  EXPECT_TRUE(empty.starts_with("HTTP/1.1 200 OK\r\n")) << empty;
}

Task<> begin_upload(Peer& peer, std::uint16_t port) {
  co_await peer.connect(port);
  co_await peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
}

Task<> send_bytes(Peer& peer, std::uint16_t port, std::string bytes, HandClock& clock) {
  co_await peer.connect(port);
  for (const char byte : bytes) {
    co_await peer.send(std::string(1, byte));
    clock.advance(Millis{100});
  }
}

TEST_F(HttpServerTest, TakesARequestByteByByteAndServesOthersMeanwhile) {
  serve(echo);
  Peer silent(loop), half(loop), slow(loop);
  run_task(loop, silent.connect(server->port()));
  run_task(loop, begin_upload(half, server->port()));
  const std::string request =
      "POST /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2;name=\"a;b\"\r\nab\r\n0001;x\r\nc\r\n0;last\r\nDigest: x\r\nExpires: y\r\n\r\n";
  run_task(loop, send_bytes(slow, server->port(), request.substr(0, request.size() - 1), clock));
  EXPECT_TRUE(say("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nquick").ends_with("\r\n\r\nquick"));
  run_task(loop, slow.send("\n"));
  const std::string answer = run_task(loop, slow.read_to_end());
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nabc")) << answer;
}

TEST_F(HttpServerTest, PassesOverEmptyLinesBeforeARequestHoweverTheyArrive) {
  serve(hello);
  Peer peer(loop);
  run_task(loop, send_bytes(peer, server->port(), "\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\n", clock));
  run_task(loop, peer.send("GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
  const std::string answer = run_task(loop, peer.read_to_end());
  EXPECT_EQ(count(answer, "HTTP/1.1 200 "), 2u) << answer;
  EXPECT_TRUE(answer.ends_with("hello /2")) << answer;
}

TEST_F(HttpServerTest, DropsAShortUnreadBodyAndGoesOn) {
  serve(hello);
  const std::string answer = say("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" +
                                 std::string(500'000, 'x') + "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_NE(answer.find("hello /1"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("hello /2"));
}

TEST_F(HttpServerTest, AnswersALongUnreadBodyBeforeItCloses) {
  serve(hello);
  const std::string answer =
      say("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + std::string(4'999'999, 'x'));
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("hello /1"));
}

Task<Response> read_little(Request& request) {
  Response response;
  response.body = co_await read_all(*request.body, 10);
  co_return response;
}

TEST_F(HttpServerTest, AnswersAnErrorOfTheHandlersMaking) {
  serve(read_little);
  const std::string answer = say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 413 Content Too Large\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nthe body is larger than 10 bytes")) << answer;
}

TEST_F(HttpServerTest, RefusesMalformedRequestsAndCloses) {
  serve(echo, {}, [](const HttpError& error) {
    Response response{.status = error.status()};
    response.headers.add("X-Refused", std::to_string(error.status()));
    return response;
  });
  struct Case {
    std::string bytes;
    const char* status = "400";
  };
  for (const Case& c : std::initializer_list<Case>{
           {"GET / HTTP/1.1\r\n\r\n"},
           {"GET / HTTP/1.1\nHost: a\n\n"},
           {"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"},
           {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"},
           {"GET / HTTP/1.1\r\nHost: a\r\nX: a" + std::string(1, '\0') + "b\r\n\r\n"},
           {"GET /" + std::string(1, '\0') + " HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"},
           {" / HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"GET / HTTP/1.9\r\nHost: a\r\n\r\n"},
           {"GET / http/1.1\r\nHost: a\r\n\r\n"},
           {"GET /\r\n\r\n"},
           {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
           {"GET /\x1b HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"GET /?\x01 HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"},
           {"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b\r\n\r\n"},
           {"GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
           {"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"},
           {"GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"},
           {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a=\"\n\"\r\n\r\n"},
           {"\x16\x03\x01\x02\r\n\r\n"},
           {"GET /" + std::string(40'000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", "431"},
           {std::string(40'000, 'a'), "431"},
       }) {
    const std::string answer = say(c.bytes);
    EXPECT_EQ(answer.substr(0, 12), std::string("HTTP/1.1 ") + c.status) << c.bytes.substr(0, 200);
    EXPECT_NE(answer.find("X-Refused: " + std::string(c.status) + "\r\n"), std::string::npos) << answer;
    EXPECT_EQ(count(answer, "HTTP/1.1 "), 1u) << answer;
  }
}

// Where the API catches what is wrong with a body, it answers on its own.
Task<Response> excuse(Request& request) {
  Response response;
  try {
    response = co_await echo(request);
  } catch (const HttpError& e) {
    response.status = e.status();
  }
  co_return response;
}

TEST_F(HttpServerTest, TakesNothingBehindABrokenBodyForARequest) {
  serve(excuse);
  for (const std::string body : {"2\r\nabX\r\n", "2;a\r\nab\r\nx\r\n", "0\r\nno trailer\r\n\r\n"}) {
    const std::string answer = say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body +
                                   "GET /hidden HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ")) << answer;
    EXPECT_EQ(count(answer, "HTTP/1.1 "), 1u) << answer;
  }
}

// A good request with some of its bytes replaced, removed or repeated: whatever it has become, it is answered or
// refused, and the connection ends.
TEST_F(HttpServerTest, NeverFailsOrHangsOverBytesThatArePartlyRight) {
  serve(excuse);
  std::minstd_rand random;
  const std::string good[] = {
      "POST /1?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\none",
      "PUT /2 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
      "\r\n2;x=\"y\"\r\ntw\r\n1\r\no\r\n0\r\nT: u\r\n\r\n",
      "HEAD /3 HTTP/1.0\r\n\r\n",
  };
  const std::string_view spice("\r\n\t\0 :;,/0 9fX\x7f\xff", 16);
  for (int round = 0; round < 1'000; ++round) {
    std::string bytes = good[random() % std::size(good)];
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const std::size_t at = random() % bytes.size(), length = 1 + random() % 3;
      const std::string some = bytes.substr(at, length);
      const unsigned kind = random() % 3;
      if (kind == 0) bytes[at] = spice[random() % spice.size()];
      if (kind == 1 && bytes.size() > length) bytes.erase(at, length);
      if (kind == 2) bytes.insert(at, some);
    }
    const std::string answer = run_task(loop, say_and_end(bytes));
    const bool continues = answer.starts_with("HTTP/1.1 100 Continue\r\n\r\n");
    const std::string status = answer.substr(continues ? 25 : 0, 10);
    ASSERT_TRUE(status == "" || status == "HTTP/1.1 2" || status == "HTTP/1.1 4")
        << "round " << round << ": " << bytes << "\n"
        << answer;
  }
}

TEST_F(HttpServerTest, GivesUpASlowHead) {
  serve(echo);
  tasks_of_test.spawn("client", say_later("GET / HTTP/1.1\r\nHos"));
  pump();
  clock.advance(Millis{29'900});
  pump();
  EXPECT_FALSE(closed);
  clock.advance(Millis{300});
  pump();
  clock.advance(Millis{3'000});  // until it stops waiting for us to close
  pump();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(heard.starts_with("HTTP/1.1 408 ")) << heard;
}

TEST_F(HttpServerTest, GivesUpAHeadThatDripsOneByteASecond) {
  serve(echo);
  Peer peer(loop);
  run_task(loop, peer.connect(server->port()));
  for (int i = 0; i < 40; ++i) {
    if (i < 30) run_task(loop, peer.send("G"));
    pump();
    clock.advance(Millis{1'000});
  }
  EXPECT_TRUE(run_task(loop, peer.read_to_end()).starts_with("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, GivesUpASlowBody) {
  serve(echo);
  tasks_of_test.spawn("client", say_later("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"));
  pump();
  clock.advance(Millis{60'200});
  pump();
  clock.advance(Millis{3'000});
  pump();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(heard.starts_with("HTTP/1.1 408 ")) << heard;
}

TEST_F(HttpServerTest, GivesUpABodyThatDripsOneByteASecond) {
  serve(echo);
  Peer peer(loop);
  run_task(loop, begin_upload(peer, server->port()));
  for (int i = 0; i < 70; ++i) {
    pump();
    clock.advance(Millis{1'000});
    if (i < 59) run_task(loop, peer.send("x"));
  }
  EXPECT_TRUE(run_task(loop, peer.read_to_end()).starts_with("HTTP/1.1 408 "));
}

TEST_F(HttpServerTest, ClosesAnIdleConnectionWithoutAWord) {
  serve(echo);
  tasks_of_test.spawn("client", say_later("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  pump();
  clock.advance(Millis{119'000});
  pump();
  EXPECT_FALSE(closed);
  clock.advance(Millis{2'000});
  pump();
  EXPECT_TRUE(closed);
  EXPECT_EQ(count(heard, "HTTP/1.1 "), 1u);
}

// /sized, /chunked; ?fail breaks off after three of five pieces.
Task<Response> stream(Request& request) {
  const bool fail = request.query == "fail";
  Response response;
  response.stream = std::make_unique<Pieces>(fail ? 3 : 5, fail);
  if (request.path == "/sized") response.stream_size = 500'000;
  co_return response;
}

TEST_F(HttpServerTest, StreamsWithAndWithoutASize) {
  serve(stream);
  HttpClient& from = client_of(url());
  const Sent sized = get(from, "/sized");
  EXPECT_EQ(sized->body.size(), 500'000u);
  EXPECT_EQ(sized->headers.find("Content-Length"), "500000");
  const Sent chunked = get(from, "/chunked");
  EXPECT_EQ(chunked->body.size(), 500'000u);
  EXPECT_EQ(chunked->headers.find("Transfer-Encoding"), "chunked");
  EXPECT_TRUE(get(from, "/sized", "HEAD")->body.empty());
  EXPECT_TRUE(say("GET /chunked HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n" + std::string(500'000, 'x')));
}

TEST_F(HttpServerTest, BreaksOffAStreamThatFails) {
  serve(stream);
  for (const char* target : {"/sized?fail", "/chunked?fail"}) {
    const Sent sent = get(client_of(url()), target);
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().kind, Kind::truncated);
  }
}

struct Endless {
  bool gone = false;
  Task<Response> handle(Request&) {
    Response response;
    response.stream = std::make_unique<Pieces>(1'000'000, false, &gone);
    co_return response;
  }
};

Task<> ask_only(Peer& peer, std::uint16_t port) {
  co_await peer.connect(port);
  co_await peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

TEST_F(HttpServerTest, GivesUpAClientThatNeverReads) {
  Endless endless;
  serve(std::bind_front(&Endless::handle, &endless));
  Peer peer(loop);
  run_task(loop, ask_only(peer, server->port()));
  pump();
  EXPECT_FALSE(endless.gone);
  clock.advance(Millis{60'200});
  pump();
  EXPECT_TRUE(endless.gone);
}

TEST_F(HttpServerTest, GivesUpAClientThatReadsOneByteASecond) {
  Endless endless;
  serve(std::bind_front(&Endless::handle, &endless));
  Peer peer(loop);
  run_task(loop, ask_only(peer, server->port()));
  pump();
  for (int i = 0; i < 59; ++i) {
    char byte;
    EXPECT_EQ(peer.socket.read_some(asio::buffer(&byte, 1)), 1u);
    clock.advance(Millis{1'000});
    pump();
  }
  EXPECT_FALSE(endless.gone);
  clock.advance(Millis{1'200});
  pump();
  EXPECT_TRUE(endless.gone);
}

struct ToldOfItsClient {
  explicit ToldOfItsClient(asio::io_context& loop) : go_on(loop) {}
  Event go_on;
  std::vector<bool> gone;
  Task<Response> handle(Request& request) {
    gone.push_back(request.client_gone());
    co_await go_on.wait();
    gone.push_back(request.client_gone());
    co_return Response{};
  }
};

TEST_F(HttpServerTest, AHandlerCanSeeThatItsClientHasGone) {
  ToldOfItsClient told(loop);
  serve(std::bind_front(&ToldOfItsClient::handle, &told));
  {
    Peer peer(loop);
    run_task(loop, ask_only(peer, server->port()));
    run_task(loop, peer.send("bytes of a next request"));
    pump();
    EXPECT_EQ(told.gone, std::vector{false});
  }
  told.go_on.notify();
  pump();
  EXPECT_EQ(told.gone, (std::vector{false, true}));
}

struct Upload {
  std::string failure;
  std::size_t piece_max = 0;
  Task<Response> handle(Request& request) {
    try {
      while (true) {
        const std::string_view piece = co_await request.body->next();
        if (piece.empty()) break;
        piece_max = std::max(piece_max, piece.size());
      }
    } catch (const HttpError&) {
      failure = "HttpError";
    } catch (const std::exception& e) {
      failure = e.what();
      throw;
    }
    co_return Response();
  }
};

Task<> leave(std::uint16_t port, asio::io_context& loop) {
  Peer peer(loop);
  co_await peer.connect(port);
  co_await peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
}

TEST_F(HttpServerTest, TellsTheHandlerThatTheClientHasLeft) {
  Upload upload;
  serve(std::bind_front(&Upload::handle, &upload));
  run_task(loop, leave(server->port(), loop));
  pump();
  EXPECT_EQ(upload.failure, "the client has closed the connection in the middle of a body");
}

TEST_F(HttpServerTest, ReadsLongBodiesInLongPieces) {
  Upload upload;
  serve(std::bind_front(&Upload::handle, &upload));
  const std::string body(20'000'000, 'x');
  const ClientRequest request{"PUT", "/", {}, body};
  EXPECT_TRUE(run_task(loop, client_of(url()).send(request, kLong)));
  EXPECT_GE(upload.piece_max, 64u * 1024);
  EXPECT_LE(upload.piece_max, 256u * 1024);
}

struct Gate {
  Event open;
  Task<Response> handle(Request& request) {
    if (request.path == "/wait") co_await open.wait();
    co_return Response();
  }
};

TEST_F(HttpServerTest, StopsIdleConnectionsAtOnceAndBusyOnesAfterTheirResponse) {
  Gate gate{Event(loop)};
  serve(std::bind_front(&Gate::handle, &gate));
  tasks_of_test.spawn("idle", say_later("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  HttpClient& busy = client_of(url());
  tasks_of_test.spawn("busy", send_later(busy, "/wait", kLong));
  pump();
  TaskGroup stopping(loop);
  stopping.spawn("stop", server->stop(Millis{10'000}));
  pump();
  EXPECT_TRUE(closed);
  EXPECT_EQ(stopping.size(), 1u);
  gate.open.notify();
  pump();
  EXPECT_EQ(stopping.size(), 0u);
  ASSERT_TRUE(later);
  EXPECT_EQ((*later)->status, 200);
  EXPECT_EQ((*later)->headers.find("Connection"), "close");
}

TEST_F(HttpServerTest, StopsRequestsThatOutliveItsPatience) {
  Gate gate{Event(loop)};
  serve(std::bind_front(&Gate::handle, &gate));
  tasks_of_test.spawn("busy", say_later("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"));
  pump();
  TaskGroup stopping(loop);
  stopping.spawn("stop", server->stop(Millis{10'000}));
  pump();
  clock.advance(Millis{9'999});
  pump();
  EXPECT_EQ(stopping.size(), 1u);
  clock.advance(Millis{1});
  pump();
  EXPECT_EQ(stopping.size(), 0u);
  EXPECT_TRUE(closed);
  EXPECT_EQ(heard, "");
}

TEST_F(HttpServerTest, WaitsForAFreeFileDescriptor) {
  serve(hello);
  Peer peer(loop);
  const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), server->port());
  peer.socket.connect(endpoint);
  rlimit usual{};
  ::getrlimit(RLIMIT_NOFILE, &usual);
  const rlimit none{3, usual.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  loop.restart();
  int steps = 0;
  while (loop.poll_one() > 0) ++steps;
  ::setrlimit(RLIMIT_NOFILE, &usual);
  EXPECT_LT(steps, 20);
  clock.advance(Millis{50});
  run_task(loop, peer.send("GET /x HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(run_task(loop, peer.read_to_end()).ends_with("hello /x"));
}

TEST_F(HttpServerTest, TakesNoMoreConnectionsThanItMayAndTheNextWhenOneCloses) {
  serve(hello, {.connections_max = 2});
  auto first = std::make_unique<Peer>(loop);
  Peer second(loop);
  run_task(loop, first->connect(server->port()));
  run_task(loop, second.connect(server->port()));
  pump();
  tasks_of_test.spawn("third", say_later("GET /third HTTP/1.0\r\n\r\n"));
  pump();
  run_task(loop, second.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_NE(run_task(loop, second.read_until("hello /second")), "");
  EXPECT_FALSE(closed);
  first.reset();
  pump();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(heard.ends_with("hello /third"));
}

TEST_F(HttpServerTest, CanBeStoppedWhileItIsFull) {
  serve(hello, {.connections_max = 1});
  Peer peer(loop);
  run_task(loop, peer.connect(server->port()));
  pump();
  run_task(loop, server->stop(Millis{10'000}));
  pump();
  EXPECT_EQ(tasks.size(), 0u);
}

TEST_F(HttpServerTest, NamesTheAddressThatItCannotHave) {
  serve(hello);
  HttpServer second(loop, clock, {.port = server->port()}, hello);
  try {
    second.listen();
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_EQ(e.what(), "cannot listen on 127.0.0.1:" + std::to_string(server->port()) + ": Address already in use");
  }
}

TEST_F(HttpServerTest, ListensOnNamesAndIpv6) {
  for (const char* host : {"localhost", "::1", "[::1]", "0.0.0.0"}) {
    HttpServer other(loop, clock, {.host = host}, hello);
    other.listen();
    EXPECT_NE(other.port(), 0) << host;
  }
}

// --- The client ---

class HttpClientTest : public Http {
 protected:
  HttpClient& talk_to(std::vector<std::vector<std::string>> connections, HttpClient::Options options = {}) {
    script = std::make_unique<Script>(loop, std::move(connections));
    tasks_of_test.spawn("script", script->run());
    return client_of(script->url(), options);
  }
  std::unique_ptr<Script> script;
};

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

TEST_F(HttpClientTest, SendsTheHeadAsTold) {
  HttpClient& to = talk_to({{kOk, kOk}});
  const ClientRequest post{"POST", "/v1/x?y=1", "A: b\r\n", "12345"};
  EXPECT_TRUE(run_task(loop, to.send(post, kLong)));
  EXPECT_EQ(script->requests[0],
            "POST /v1/x?y=1 HTTP/1.1\r\nHost: " + script->url().substr(7) + "\r\nA: b\r\nContent-Length: 5\r\n\r\n");
}

TEST_F(HttpClientTest, KeepsItsConnection) {
  HttpClient& to = talk_to({{kOk, kOk, kOk}});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(get(to)->body, "ok");
  EXPECT_EQ(script->accepted, 1);
}

TEST_F(HttpClientTest, ReplacesAKeptConnectionThatIsClosedOnce) {
  HttpClient& to = talk_to({{kOk}, {kOk}, {}});
  EXPECT_TRUE(get(to));
  EXPECT_TRUE(get(to));
  EXPECT_EQ(script->accepted, 2);
  const Sent third = get(to);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().kind, Kind::reset);
}

TEST_F(HttpClientTest, LooksAtAConnectionThatWasIdleForLongBeforeItSends) {
  HttpClient& to = talk_to({{kOk}, {"wait"}});
  EXPECT_TRUE(get(to));
  pump();
  clock.advance(Millis{5'000});
  TaskGroup caller(loop);
  caller.spawn("request", send_later(to, "/", kLong));
  pump();
  EXPECT_EQ(script->accepted, 2);
  caller.cancel();
  pump();
}

TEST_F(HttpClientTest, DoesNotKeepAConnectionThatSaysClose) {
  HttpClient& to = talk_to({{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", kOk}, {kOk}});
  EXPECT_TRUE(get(to));
  EXPECT_TRUE(get(to));
  EXPECT_EQ(script->accepted, 2);
}

TEST_F(HttpClientTest, ReadsBodiesOfEveryFraming) {
  HttpClient& to = talk_to({{
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: "
      "3\r\n\r\nabc",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n",
      "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\nto the end",
  }});
  const Sent first = get(to);
  EXPECT_EQ(first->status, 201);
  EXPECT_EQ(first->body, "abc");
  EXPECT_EQ(get(to)->body, "abcdefg");
  EXPECT_EQ(get(to)->status, 204);
  EXPECT_EQ(get(to)->body, "to the end");
  EXPECT_EQ(script->accepted, 1);
}

TEST_F(HttpClientTest, PassesOnBodiesOfEveryFramingButThoseOfRefusals) {
  HttpClient& to =
      talk_to({{
                  "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
                  "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
                  "HTTP/1.1 200 OK\r\n\r\nto the end",
              }},
              {.body_size_max = 2});
  std::string passed;
  ClientRequest request{"GET", "/", {}, {}};
  request.on_piece = [&](std::string_view piece) { passed += piece; };
  for (const char* expected : {"abc", "abcdefg", "", "to the end"}) {
    passed.clear();
    const Sent sent = run_task(loop, to.send(request, kLong));
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_EQ(passed, expected);
    EXPECT_EQ(sent->body, sent->status == 404 ? "no" : "");
  }
  EXPECT_EQ(script->accepted, 1);
}

TEST_F(HttpClientTest, APassedOnBodyMayLastAsLongAsItDoesNotFallSilent) {
  tcp::acceptor acceptor(loop, {asio::ip::address_v4::loopback(), 0});
  HttpClient& to = client_of("http://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()));
  std::string passed;
  ClientRequest request{"GET", "/", {}, {}};
  request.on_piece = [&](std::string_view piece) { passed += piece; };
  tasks_of_test.spawn("request", send_request_later(to, request, Millis{1'000}));
  pump();
  tcp::socket far = acceptor.accept();
  asio::write(far, asio::buffer(std::string_view("HTTP/1.1 200 OK\r\n\r\n")));
  for (int i = 1; i <= 3; ++i) {
    asio::write(far, asio::buffer(std::string_view("x")));
    while (passed.size() < static_cast<std::size_t>(i)) pump();
    clock.advance(Millis{900});
    pump();
    EXPECT_FALSE(later);
  }
  clock.advance(Millis{300});
  while (!later) pump();
  ASSERT_FALSE(*later);
  EXPECT_EQ(later->error().kind, Kind::timeout);
}

TEST_F(HttpClientTest, TellsWhatWentWrong) {
  struct Case {
    std::vector<std::string> replies;
    Kind kind;
  };
  for (const Case& c : std::initializer_list<Case>{
           {{""}, Kind::reset},
           {{"HTTP/1.1 200 OK\r\nContent-"}, Kind::truncated},
           {{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"}, Kind::truncated},
           {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"}, Kind::truncated},
           {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nabc\r\n\r\n"}, Kind::truncated},
           {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n"}, Kind::malformed},
           {{"SSH-2.0-OpenSSH_9.2\r\n\r\n"}, Kind::malformed},
           {{"HTTP/1.1 200 OK\nContent-Length: 0\n\n"}, Kind::malformed},
           {{"HTTP/1.1 101 Switching Protocols\r\n\r\n"}, Kind::malformed},
           {{"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"}, Kind::too_large},
           {{"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + std::string(101, 'x')}, Kind::too_large},
           {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'x')}, Kind::too_large},
           {{"HTTP/1.1 200 OK\r\n\r\n" + std::string(101, 'x')}, Kind::too_large},
       }) {
    const Sent sent = get(talk_to({c.replies}, {.body_size_max = 100}));
    ASSERT_FALSE(sent) << c.replies[0];
    EXPECT_EQ(sent.error().kind, c.kind) << c.replies[0] << ": " << sent.error().message;
    tasks_of_test.cancel();
    pump();
  }
}

TEST_F(HttpClientTest, CannotConnectWhereNobodyListens) {
  std::string nowhere;
  {
    Script script_that_ends(loop, {});
    nowhere = script_that_ends.url();
  }
  for (const std::string& where :
       {nowhere, std::string("unix:/no/such.sock"), std::string("http://no-such-host.invalid")}) {
    const Sent sent = get(client_of(where));
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().kind, Kind::connect);
    EXPECT_TRUE(sent.error().message.starts_with("cannot connect to ")) << sent.error().message;
  }
}

TEST_F(HttpClientTest, ResolvesNames) {
  serve(hello);
  EXPECT_EQ(get(client_of("http://localhost:" + std::to_string(server->port())), "/x")->body, "hello /x");
}

TEST_F(HttpClientTest, ClosesTheConnectionWhenTimeIsUp) {
  HttpClient& to = talk_to({{"wait"}});
  tasks_of_test.spawn("request", send_later(to, "/", Millis{5'000}));
  pump();
  clock.advance(Millis{4'900});
  pump();
  EXPECT_FALSE(later);
  clock.advance(Millis{200});
  pump();
  ASSERT_TRUE(later);
  EXPECT_EQ(later->error().kind, Kind::timeout);
  EXPECT_TRUE(script->seen_close);
}

TEST_F(HttpClientTest, ClosesTheConnectionWhenItsCallerIsCancelled) {
  HttpClient& to = talk_to({{"wait"}});
  TaskGroup caller(loop);
  caller.spawn("request", send_later(to, "/", kLong));
  pump();
  caller.cancel();
  pump();
  EXPECT_FALSE(later);
  EXPECT_EQ(caller.size(), 0u);
  EXPECT_TRUE(script->seen_close);
}

TEST_F(HttpClientTest, ConnectsOnlyToAddressesThatAreAdmitted) {
  serve(hello);
  const std::string port = std::to_string(server->port());
  HttpClient::Options options;
  std::vector<std::string> asked;
  options.admit = [&](const asio::ip::address& address) {
    asked.push_back(address.to_string());
    return false;
  };
  for (const std::string& where : {"http://127.0.0.1:" + port, "http://localhost:" + port, "http://127.1:" + port,
                                   "http://0x7f000001:" + port, "http://2130706433:" + port}) {
    asked.clear();
    const Sent sent = get(client_of(where, options));
    ASSERT_FALSE(sent) << where;
    EXPECT_EQ(sent.error().kind, Kind::connect);
    EXPECT_EQ(sent.error().message, "cannot connect to " + where.substr(7) + ": its address is not public");
    EXPECT_EQ(asked.size(), 1u) << where;
  }
  const Sent by_path = get(client_of("unix:/no/such.sock", options));
  ASSERT_FALSE(by_path);
  EXPECT_EQ(by_path.error().message, "cannot connect to unix:/no/such.sock: its address is not public");

  options.admit = [](const asio::ip::address& address) { return address.is_loopback(); };
  EXPECT_EQ(get(client_of("http://localhost:" + port, options), "/x")->body, "hello /x");
}

TEST_F(HttpClientTest, FollowsNoRedirect) {
  HttpClient& to = talk_to({{"HTTP/1.1 307 Temporary Redirect\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", kOk}});
  const Sent sent = get(to, "/a");
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->status, 307);
  EXPECT_EQ(script->requests.size(), 1u);
}

TEST_F(HttpClientTest, TakesTheStatusOfABodyThatIsLeftWhereThatIsAllThatIsWanted) {
  for (const std::string& rest : std::initializer_list<std::string>{
           "Content-Length: 101\r\n\r\n",
           "Content-Length: 101\r\n\r\n" + std::string(101, 'x'),
           "Content-Length: 999999999999\r\n\r\n" + std::string(10, 'x'),
           "Transfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'x'),
           "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
           "\r\n" + std::string(101, 'x'),
       }) {
    HttpClient& to = talk_to({{"HTTP/1.1 202 Accepted\r\n" + rest, "HTTP/1.1 500 Late\r\n\r\n"}, {kOk}},
                             {.body_size_max = 100, .status_suffices = true});
    const Sent sent = get(to);
    ASSERT_TRUE(sent) << rest.substr(0, 40) << sent.error().message;
    EXPECT_EQ(sent->status, 202);
    EXPECT_LE(sent->body.size(), 100u);
    EXPECT_EQ(get(to)->body, "ok") << "the next request goes over another connection";
    tasks_of_test.cancel();
    pump();
  }
  EXPECT_EQ(
      get(talk_to({{"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nabc"}}, {.status_suffices = true}))->status,
      202);
  const Sent none = get(talk_to({{"HTTP/1.1 202 Acc"}}, {.status_suffices = true}));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, Kind::truncated);
}

TEST_F(HttpClientTest, TakesTheStatusOfABodyThatDrips) {
  HttpClient& to = talk_to({{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "wait"}}, {.status_suffices = true});
  tasks_of_test.spawn("request", send_later(to, "/", Millis{5'000}));
  pump();
  EXPECT_FALSE(later);
  clock.advance(Millis{5'100});
  pump();
  ASSERT_TRUE(later && *later);
  EXPECT_EQ((*later)->status, 200);
  EXPECT_EQ((*later)->body.substr(0, 3), "abc");
}

TEST_F(HttpClientTest, SendsAStream) {
  serve(echo);
  HttpClient& to = client_of(url());
  EXPECT_TRUE(get(to));
  for (const int pieces : {0, 1, 30}) {
    Pieces source(pieces, false);
    const std::uint64_t size = 100'000u * static_cast<unsigned>(pieces);
    const ClientRequest request{
        .method = "PUT", .target = "/", .headers = {}, .body = {}, .stream = &source, .stream_size = size};
    const Sent sent = run_task(loop, to.send(request, kLong));
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_TRUE(sent->body == std::string(size, 'x'));
  }
}

TEST_F(HttpClientTest, SendsAStreamOverANewConnectionAsItCannotBeSentTwice) {
  HttpClient& to = talk_to({{kOk}, {kOk, "wait"}});
  EXPECT_TRUE(get(to));
  Pieces source(1, false);
  const ClientRequest request{
      .method = "PUT", .target = "/", .headers = {}, .body = {}, .stream = &source, .stream_size = 100'000};
  EXPECT_TRUE(run_task(loop, to.send(request, kLong)));
  EXPECT_EQ(script->accepted, 2);
}

TEST_F(HttpClientTest, ThrowsWhatItsStreamThrows) {
  serve(excuse);
  struct Case {
    int pieces;
    bool fail;
    const char* failure;
  };
  for (const Case& c :
       {Case{2, true, "the disk is gone"}, Case{2, false, "a request's stream is shorter than its size"},
        Case{4, false, "a request's stream is longer than its size"}}) {
    Pieces source(c.pieces, c.fail);
    const ClientRequest request{
        .method = "PUT", .target = "/", .headers = {}, .body = {}, .stream = &source, .stream_size = 300'000};
    try {
      run_task(loop, client_of(url()).send(request, kLong));
      ADD_FAILURE() << c.failure;
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), c.failure);
    }
  }
}

TEST_F(HttpClientTest, TakesTheResponseToAStreamThatIsRefusedOnItsWay) {
  HttpClient& to = talk_to({{"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"}});
  Pieces source(1'000, false);
  const ClientRequest request{
      .method = "PUT", .target = "/", .headers = {}, .body = {}, .stream = &source, .stream_size = 100'000'000};
  const Sent sent = run_task(loop, to.send(request, kLong));
  ASSERT_TRUE(sent) << sent.error().message;
  EXPECT_EQ(sent->status, 413);
}

Task<> serve_unix(asio::local::stream_protocol::acceptor& acceptor, asio::io_context& loop, std::string& seen) {
  Peer peer(loop);
  co_await acceptor.async_accept(peer.socket, asio::use_awaitable);
  seen = co_await peer.read_until("\r\n\r\n");
  co_await peer.send(kOk);
}

TEST_F(HttpClientTest, SpeaksThroughAUnixSocket) {
  const std::string path = ::testing::TempDir() + "penstock_" + std::to_string(::getpid()) + ".sock";
  asio::local::stream_protocol::acceptor acceptor(loop, asio::local::stream_protocol::endpoint(path));
  std::string seen;
  tasks_of_test.spawn("unix", serve_unix(acceptor, loop, seen));
  EXPECT_EQ(get(client_of("unix:" + path), "/health")->body, "ok");
  EXPECT_EQ(seen, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace penstock
