#pragma once
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/message.h"
#include "testing/run_task.h"

// Server and client on one loop, and time that moves by hand.
namespace penstock {

using asio::ip::tcp;
using Sent = boost::system::result<ClientResponse, SendFailure>;
constexpr Millis kLong{1'000'000};

// Time that moves when the test says so.
class HandClock : public Clock {
 public:
  Timestamp now() const override { return Timestamp(Millis(1'700'000'000'000)) + moment_.time_since_epoch(); }
  Moment monotonic() const override { return moment_; }

  std::unique_ptr<Alarm> alarm_at(Moment when, std::function<void()> ring) override {
    const Key key{when, ++count_};
    alarms_[key] = std::move(ring);
    return std::make_unique<HandAlarm>(*this, key);
  }

  void advance(Millis step) {
    const Moment end = moment_ + step;
    while (!alarms_.empty() && alarms_.begin()->first.first <= end) {
      const auto due = alarms_.extract(alarms_.begin());
      moment_ = std::max(moment_, due.key().first);
      due.mapped()();
    }
    moment_ = end;
  }

 private:
  using Key = std::pair<Moment, int>;
  struct HandAlarm : Alarm {
    HandAlarm(HandClock& the_clock, Key the_key) : clock(the_clock), key(the_key) {}
    ~HandAlarm() override { clock.alarms_.erase(key); }
    HandClock& clock;
    Key key;
  };

  Moment moment_{Millis{1'000}};
  std::map<Key, std::function<void()>> alarms_;
  int count_ = 0;
};

// One side of a connection.
class Peer {
 public:
  explicit Peer(asio::io_context& loop) : socket(loop) {}

  Task<> connect(std::uint16_t port) {
    const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port);
    co_await socket.async_connect(endpoint, asio::use_awaitable);
  }

  Task<> send(std::string bytes) { co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable); }

  // Up to and with `end`; what there is when the connection ends first.
  Task<std::string> read_until(std::string end) {
    std::size_t found;
    while ((found = in.find(end)) == std::string::npos) {
      char chunk[4096];
      error_code error;
      const std::size_t n =
          co_await socket.async_read_some(asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, error));
      if (error == asio::error::operation_aborted) throw boost::system::system_error(error);
      if (error) co_return std::exchange(in, {});
      in.append(chunk, n);
    }
    std::string text = in.substr(0, found + end.size());
    in.erase(0, text.size());
    co_return text;
  }

  Task<std::string> read_to_end() { return read_until("\x01no such bytes"); }

  Socket socket;
  std::string in;
};

class Http : public ::testing::Test {
 protected:
  Http() { log::set_level(log::Level::off); }

  ~Http() override {
    if (server) tasks.spawn("stop", server->stop(Millis{0}));
    tasks_of_test.cancel();
    while (tasks.size() + tasks_of_test.size() > 0) {
      clock.advance(Millis{1});
      pump();
    }
    log::set_level(log::Level::info);
  }

  void serve(HttpServer::Handler handler, HttpServer::Options options = {},
             HttpServer::Refusal refusal = HttpServer::in_plain_words) {
    server = std::make_unique<HttpServer>(loop, clock, std::move(options), std::move(handler), std::move(refusal));
    server->listen();
    tasks.spawn("server", server->run());
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(server->port()); }

  HttpClient& client_of(const std::string& where, HttpClient::Options options = {}) {
    client = std::make_unique<HttpClient>(loop, clock, *Endpoint::parse(where), options);
    return *client;
  }

  Sent get(HttpClient& from, std::string_view target = "/", std::string_view method = "GET") {
    const ClientRequest request{method, target, {}, {}};
    return run_task(loop, from.send(request, kLong));
  }

  // Everything that the server says to `bytes` until it closes.
  std::string say(const std::string& bytes) { return run_task(loop, say_to(server->port(), bytes)); }
  Task<std::string> say_to(std::uint16_t port, std::string bytes) {
    Peer peer(loop);
    co_await peer.connect(port);
    co_await peer.send(bytes);
    std::string answer = co_await peer.read_to_end();
    co_return answer;
  }
  // The same to a client that has nothing more to say.
  Task<std::string> say_and_end(std::string bytes) {
    Peer peer(loop);
    co_await peer.connect(server->port());
    co_await peer.send(bytes);
    peer.socket.shutdown(Socket::shutdown_send);
    std::string answer = co_await peer.read_to_end();
    co_return answer;
  }
  Task<> say_later(std::string bytes) {
    heard = co_await say_to(server->port(), bytes);
    closed = true;
  }

  Task<> send_later(HttpClient& to, std::string target, Millis timeout) {
    const ClientRequest request{"GET", target, {}, {}};
    later = co_await to.send(request, timeout);
  }

  Task<> send_request_later(HttpClient& to, const ClientRequest& request, Millis timeout) {
    later = co_await to.send(request, timeout);
  }

  // Runs whatever can run without time passing.
  void pump() {
    loop.restart();
    while (loop.poll() > 0) continue;
  }

  asio::io_context loop;
  HandClock clock;
  TaskGroup tasks{loop}, tasks_of_test{loop};
  std::unique_ptr<HttpServer> server;
  std::unique_ptr<HttpClient> client;
  std::string heard;
  std::optional<Sent> later;  // what send_later() brought
  bool closed = false;
};

inline std::size_t count(const std::string& text, const std::string& word) {
  std::size_t n = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
  return n;
}

inline Task<Response> echo(Request& request) {
  Response response;
  response.headers.add("Content-Type", "text/plain");
  response.headers.add("X-Seen", request.method + " " + request.path + " " + request.query);
  response.body = co_await read_all(*request.body, 64 << 20);
  co_return response;
}

inline Task<Response> hello(Request& request) {
  Response response;
  response.body = "hello " + request.path;
  co_return response;
}

// `count` pieces of 100 KB, then an accident if it is told so.
class Pieces : public ByteSource {
 public:
  Pieces(int count, bool fail, bool* gone = nullptr) : count_(count), fail_(fail), gone_(gone) {}
  ~Pieces() override {
    if (gone_) *gone_ = true;
  }
  Task<std::string_view> next() override {
    if (count_-- > 0) co_return piece_;
    if (fail_) throw std::runtime_error("the disk is gone");
    co_return std::string_view();
  }

 private:
  int count_;
  bool fail_;
  bool* gone_;
  std::string piece_ = std::string(100'000, 'x');
};

}  // namespace penstock
