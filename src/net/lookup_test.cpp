#include "net/lookup.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <condition_variable>
#include <mutex>

#include "testing/http_fixture.h"

namespace penstock {
namespace {

// What name servers of hosts under .silent do, while there is one of these: they do not answer until it says so.
class Silence {
 public:
  Silence() { current_ = this; }
  ~Silence() {
    release();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ == 0; });
    current_ = nullptr;
  }

  static int ask(const char* host) {
    Silence& self = *current_;
    std::unique_lock lock(self.mutex_);
    self.asked_.emplace_back(host);
    ++self.waiting_;
    self.changed_.notify_all();
    self.changed_.wait(lock, [&] { return self.released_; });
    --self.waiting_;
    self.changed_.notify_all();
    return EAI_AGAIN;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

  // False when so many do not come to wait.
  bool holds(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return waiting_ == count; });
  }
  int waiting() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }
  std::vector<std::string> asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  static inline Silence* current_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool released_ = false;
  int waiting_ = 0;
  std::vector<std::string> asked_;
};

}  // namespace
}  // namespace penstock

// In place of the C library's, for the whole program.
extern "C" int getaddrinfo(const char* host, const char* service, const addrinfo* hints, addrinfo** found) {
  static const auto real = reinterpret_cast<decltype(&::getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  if (host && std::string_view(host).ends_with(".silent")) return penstock::Silence::ask(host);
  return real(host, service, hints, found);
}

namespace penstock {
namespace {

const ClientRequest kRequest{"GET", "/", {}, {}};

struct Call {
  std::unique_ptr<HttpClient> client;
  std::optional<Sent> sent;
  std::exception_ptr failure;
};

class LookupTest : public Http {
 protected:
  LookupTest() {
    guarded.admit = [](const asio::ip::address& address) { return address.is_loopback(); };
    serve(hello);
    local = "http://localhost:" + std::to_string(server->port());
  }
  ~LookupTest() override {
    tasks_of_test.cancel();
    pump();
  }

  Call& start(const std::string& where, const HttpClient::Options& options) {
    Call& call = *calls.emplace_back(std::make_unique<Call>());
    call.client = std::make_unique<HttpClient>(loop, clock, *Endpoint::parse(where), options);
    tasks_of_test.spawn("call", keep_result(call.client->send(kRequest, kLong), call.sent, call.failure));
    pump();
    return call;
  }

  HttpClient::Options guarded;
  std::string local;  // a URL of the server by name
  std::vector<std::unique_ptr<Call>> calls;
  Silence silence;
};

TEST_F(LookupTest, ANameOfAClientThatNobodyAnswersForHoldsUpNoOther) {
  const Call& call = start("http://a.silent", guarded);
  ASSERT_TRUE(silence.holds(1));
  EXPECT_TRUE(get(client_of(local)));
  EXPECT_TRUE(get(client_of(local, guarded)));
  EXPECT_FALSE(call.sent);
  silence.release();
  loop.restart();
  while (!call.sent && loop.run_one_for(std::chrono::seconds(30)) > 0) continue;
  ASSERT_TRUE(call.sent && !*call.sent);
  EXPECT_EQ(call.sent->error().message.substr(0, 40), "cannot connect to a.silent:80: Host not ");
}

TEST_F(LookupTest, WhoeverWaitsForANameLeavesInTimeOrWhenCancelledOrWithTheLoop) {
  const Call& late = start("http://a.silent", guarded);
  ASSERT_TRUE(silence.holds(1));
  clock.advance(guarded.connect_timeout);
  pump();
  ASSERT_TRUE(late.sent && !*late.sent);
  EXPECT_EQ(late.sent->error().message, "cannot connect to a.silent:80: Connection timed out");

  const Call& cancelled = start("http://b.silent", guarded);
  ASSERT_TRUE(silence.holds(2));
  tasks_of_test.cancel();
  pump();
  EXPECT_TRUE(cancelled.failure);

  Call lost;
  {
    asio::io_context other_loop;
    TaskGroup group(other_loop);
    lost.client = std::make_unique<HttpClient>(other_loop, clock, *Endpoint::parse("http://c.silent"), guarded);
    group.spawn("call", keep_result(lost.client->send(kRequest, kLong), lost.sent, lost.failure));
    other_loop.poll();
    ASSERT_TRUE(silence.holds(3));
  }
  silence.release();
  ASSERT_TRUE(silence.holds(0));
  EXPECT_TRUE(get(client_of(local, guarded)));
}

TEST_F(LookupTest, NamesOfClientsThatNobodyAnswersForAreLimited) {
  for (int tries = 0; silence.waiting() < kLookupsApartMax && tries < 1'000; ++tries) {
    const int before = silence.waiting();
    const Call& call = start("http://a.silent", guarded);
    if (call.sent) continue;  // a lookup of another test has not quite ended
    ASSERT_TRUE(silence.holds(before + 1));
  }
  ASSERT_EQ(silence.waiting(), kLookupsApartMax);
  clock.advance(guarded.connect_timeout);
  pump();
  EXPECT_TRUE(calls.front()->sent) << "it has left, but its lookup has not ended";

  const Call& refused = start("http://b.silent", guarded);
  ASSERT_TRUE(refused.sent && !*refused.sent);
  EXPECT_EQ(refused.sent->error().kind, SendFailure::Kind::connect);
  EXPECT_EQ(refused.sent->error().message, "cannot connect to b.silent:80: too many names are being looked up");
  EXPECT_TRUE(get(client_of(local))) << "names of the configuration have no part in that";
}

TEST_F(LookupTest, WhoeverHasLeftTheQueueOfNamesIsNotLookedUp) {
  start("http://a.silent", {});
  ASSERT_TRUE(silence.holds(1));
  start("http://b.silent", {});
  start("http://c.silent", {});
  clock.advance(HttpClient::Options().connect_timeout);
  pump();
  for (const auto& call : calls) EXPECT_TRUE(call->sent);
  silence.release();
  EXPECT_TRUE(get(client_of(local)));
  EXPECT_EQ(silence.asked(), std::vector<std::string>{"a.silent"});
}

}  // namespace
}  // namespace penstock
