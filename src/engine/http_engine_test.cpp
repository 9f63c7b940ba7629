#include "engine/http_engine.h"

#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>

#include "base/log.h"
#include "net/http_server.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

// An engine and a server on loopback that plays the far side.
class HttpEngineTest : public testing::Test {
 protected:
  HttpEngineTest() { log::set_level(log::Level::off); }
  ~HttpEngineTest() override {
    tasks.cancel();
    down();
    EXPECT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));
    log::set_level(log::Level::info);
  }

  void up() {
    server = std::make_unique<HttpServer>(loop, clock, HttpServer::Options{.port = port},
                                          [this](Request& request) { return handle(request); });
    server->listen();
    port = server->port();
    serving = std::make_unique<TaskGroup>(loop);
    serving->spawn("server", server->run());
  }
  void down() {
    if (!server) return;
    run_task(loop, server->stop(Millis{0}));
    serving->cancel();
    EXPECT_TRUE(run_until(loop, [&] { return serving->size() == 0; }));
    server.reset();
  }

  Task<Response> handle(Request& request) {
    requests.push_back(request.method + " " + request.path);
    authorization = std::string(request.headers.find("authorization").value_or("none"));
    content_type = std::string(request.headers.find("content-type").value_or("none"));
    body = co_await read_all(*request.body, 1 << 20);
    if (gate && request.method == "POST") {
      ++waiting;
      co_await gates.emplace_back(std::make_unique<Event>(loop))->wait();
    }
    Response response;
    response.status = request.method == "GET" ? models_status : answer_status;
    response.body = request.method == "GET" ? models : answer;
    if (request.path == "/props" || request.path == "/metrics") {
      response.status = pages.contains(request.path) ? page_status : 404;
      response.body = pages[request.path];
    }
    for (const auto& [name, value] : answer_headers) response.headers.add(name, value);
    co_return response;
  }

  HttpEngine& make(const std::string& base = "", HttpEngine::Options options = {}) {
    options.endpoint = Endpoint::parse(fmt::format("http://127.0.0.1:{}{}", port, base)).value();
    options.name = "engine";
    engine = std::make_unique<HttpEngine>(loop, clock, std::move(options), [this] { ++changes; });
    return *engine;
  }
  HttpEngine& start(const std::string& base = "", HttpEngine::Options options = {}) {
    make(base, std::move(options));
    tasks.spawn("engine", engine->run());
    return *engine;
  }
  Answer send(std::string_view text = "{}") { return run_task(loop, engine->send("/v1/chat/completions", text)); }
  [[nodiscard]] bool until_ready() {
    return run_until(loop, [&] { return engine->ready(); });
  }

  // With time passing, so that it is probed again.
  [[nodiscard]] bool until_ready_later() {
    return run_until(loop, [&] {
      clock.advance(Millis{100});
      return engine->ready();
    });
  }

  asio::io_context loop;
  FakeClock clock{loop};
  TaskGroup tasks{loop};
  std::unique_ptr<HttpServer> server;
  std::unique_ptr<TaskGroup> serving;
  std::unique_ptr<HttpEngine> engine;
  std::uint16_t port = 0;
  int changes = 0, waiting = 0;
  bool gate = false;
  std::vector<std::unique_ptr<Event>> gates;

  std::string models = R"({"object":"list","data":[{"id":"m"},{"id":"n"},{"x":1},7]})", answer = "{\"a\": 1}";
  int models_status = 200, answer_status = 200, page_status = 200;
  std::vector<std::pair<std::string, std::string>> answer_headers;
  std::map<std::string, std::string> pages;
  std::vector<std::string> requests;
  std::string authorization, content_type, body;
};

TEST_F(HttpEngineTest, ReadsItsModelsAndIsReady) {
  up();
  HttpEngine& e = start();
  EXPECT_FALSE(e.ready());
  EXPECT_TRUE(e.models().empty());
  EXPECT_FALSE(e.trouble().empty());
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(e.models(), (std::vector<std::string>{"m", "n"}));
  EXPECT_EQ(e.trouble(), "");
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(authorization, "none");
}

TEST_F(HttpEngineTest, TheBasePathMayEndInV1OrLeaveItOut) {
  up();
  for (const auto& [base, root] :
       {std::pair{"", ""}, {"/", ""}, {"/v1", ""}, {"/v1/", ""}, {"/deep/v1", "/deep"}, {"/deep", "/deep"}}) {
    requests.clear();
    start(base);
    ASSERT_TRUE(until_ready());
    EXPECT_EQ(send("{\"b\":1}").status, 200);
    EXPECT_EQ(requests,
              (std::vector<std::string>{fmt::format("GET {}/v1/models", root), fmt::format("GET {}/props", root),
                                        fmt::format("POST {}/v1/chat/completions", root)}));
    EXPECT_EQ(body, "{\"b\":1}");
    EXPECT_EQ(content_type, "application/json");
    tasks.cancel();
    ASSERT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));
  }
}

TEST_F(HttpEngineTest, ALlamaServerTellsItsSlotsEachTimeThatItComesUp) {
  up();
  pages["/props"] = R"({"total_slots":4})";
  HttpEngine& e = start();
  EXPECT_EQ(e.slots(), 0);
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(e.slots(), 4);
  for (const auto& [props, slots] :
       {std::pair{R"({"total_slots":6})", 6}, {R"({"total_slots":"6"})", 0}, {"[]", 0}, {"{", 0}}) {
    pages["/props"] = props;
    e.mark_down();
    ASSERT_TRUE(until_ready_later());
    EXPECT_EQ(e.slots(), slots) << props;
  }
}

TEST_F(HttpEngineTest, SlotsThatWereGivenAreNotAskedFor) {
  up();
  pages["/props"] = R"({"total_slots":4})";
  start("", {.endpoint = {}, .name = {}, .key = {}, .slots = 7, .only_model = {}});
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(engine->slots(), 7);
  EXPECT_EQ(requests, std::vector<std::string>{"GET /v1/models"});
}

TEST_F(HttpEngineTest, EnginesTellTheirLoadInTheirOwnWords) {
  up();
  HttpEngine& e = start("/v1");
  ASSERT_TRUE(until_ready());
  struct Case {
    const char* metrics;
    double running, waiting, cache;
  };
  for (const Case& c : {
           Case{"# HELP vllm:num_requests_running Number of requests.\n"
                "vllm:num_requests_running{engine=\"0\",model_name=\"a}b c\"} 3.0\n"
                "vllm:num_requests_running{engine=\"1\",model_name=\"a}b c\"} 4.0\n"
                "vllm:num_requests_waiting{engine=\"0\",model_name=\"a}b c\"} 2.0\n"
                "vllm:num_requests_waiting_by_reason{reason=\"x\"} 9.0\n"
                "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"a}b c\"} 0.25\n"
                "vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"a}b c\"} 0.5\n",
                7, 2, 0.5},
           {"vllm:num_requests_running 1\r\nvllm:gpu_cache_usage_perc 2.5e-1", 1, 0, 0.25},
           {"sglang:num_running_reqs{tp_rank=\"0\"} 5.0\nsglang:num_queue_reqs{tp_rank=\"0\"} 1.0\n"
            "sglang:token_usage{tp_rank=\"0\"} 0.75",
            5, 1, 0.75},
           {"llamacpp:requests_processing 2\nllamacpp:requests_deferred 3\n", 2, 3, 0},
           {"vllm:num_requests_running NaN\nvllm:num_requests_waiting\n", 0, 0, 0},
       }) {
    pages["/metrics"] = c.metrics;
    const auto load = run_task(loop, e.load());
    ASSERT_TRUE(load) << c.metrics;
    EXPECT_EQ(load->running, c.running) << c.metrics;
    EXPECT_EQ(load->waiting, c.waiting) << c.metrics;
    EXPECT_EQ(load->cache, c.cache) << c.metrics;
  }
}

TEST_F(HttpEngineTest, AnEngineThatDoesNotTellItsLoadIsNotAskedAgainUntilItComesUpAnew) {
  up();
  HttpEngine& e = start();
  EXPECT_FALSE(run_task(loop, e.load()));
  ASSERT_TRUE(until_ready());
  requests.clear();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(run_task(loop, e.load()));
  EXPECT_EQ(requests, std::vector<std::string>{"GET /metrics"});
  pages["/metrics"] = "go_goroutines 7\n";  // another engine's
  e.mark_down();
  ASSERT_TRUE(until_ready_later());
  EXPECT_FALSE(run_task(loop, e.load()));
  pages["/metrics"] = "vllm:num_requests_running 1\n";
  EXPECT_FALSE(run_task(loop, e.load()));
  e.mark_down();
  ASSERT_TRUE(until_ready_later());
  EXPECT_TRUE(run_task(loop, e.load()));
}

TEST_F(HttpEngineTest, AnEngineThatCannotTellItsLoadNowIsAskedAgain) {
  up();
  HttpEngine& e = start();
  ASSERT_TRUE(until_ready());
  pages["/metrics"] = "vllm:num_requests_running 1\n";
  const auto seen_after = [&](int status) {
    page_status = status;
    EXPECT_FALSE(run_task(loop, e.load())) << status;
    page_status = 200;
    return run_task(loop, e.load()).has_value();
  };
  for (const int status : {429, 500, 502, 503}) EXPECT_TRUE(seen_after(status)) << status;
  EXPECT_TRUE(seen_after(404)) << "it has told before";
  e.mark_down();
  ASSERT_TRUE(until_ready_later());
  EXPECT_TRUE(seen_after(503)) << "before it told anything";
  e.mark_down();
  ASSERT_TRUE(until_ready_later());
  EXPECT_FALSE(seen_after(501));
}

TEST_F(HttpEngineTest, SendsItsKeyWithEveryRequest) {
  up();
  start("", {.endpoint = {}, .name = {}, .key = "sk-secret", .only_model = {}});
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(authorization, "Bearer sk-secret");
  authorization.clear();
  send();
  EXPECT_EQ(authorization, "Bearer sk-secret");
}

TEST_F(HttpEngineTest, ServesOneModelAloneWhenToldTo) {
  up();
  const HttpEngine::Options only_n{.endpoint = {}, .name = {}, .key = {}, .only_model = "n"};
  start("", only_n);
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(engine->models(), std::vector<std::string>{"n"});
  tasks.cancel();
  ASSERT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));

  models_status = 404;  // it does not list its models
  start("", only_n);
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(engine->models(), std::vector<std::string>{"n"});
}

TEST_F(HttpEngineTest, IsNotReadyWithoutTheOneModelThatWasAskedFor) {
  up();
  start("", {.endpoint = {}, .name = {}, .key = {}, .only_model = "other"});
  ASSERT_TRUE(run_until(loop, [&] { return engine->trouble().find("other") != std::string::npos; }));
  EXPECT_FALSE(engine->ready());
  EXPECT_EQ(changes, 0);
  models = R"({"data":[{"id":"other"}]})";
  ASSERT_TRUE(until_ready_later());
}

TEST_F(HttpEngineTest, GarbageInsteadOfModelsDoesNoHarm) {
  up();
  for (const std::string text : {"", "[]", "{\"data\":7}", "<html>", "{}"}) {
    models = text;
    start();
    ASSERT_TRUE(until_ready()) << text;
    EXPECT_TRUE(engine->models().empty()) << text;
    tasks.cancel();
    ASSERT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));
  }
}

TEST_F(HttpEngineTest, GivesTheAnswerAsItIs) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  answer_headers = {{"X-Request-Id", "req-7"}, {"Retry-After", "9"}};
  const Answer good = send();
  EXPECT_EQ(good.kind, Answer::Kind::response);
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(good.body, "{\"a\": 1}");
  EXPECT_EQ(good.request_id, "req-7");
  EXPECT_FALSE(good.retry_after);
  EXPECT_TRUE(engine->ready());
}

TEST_F(HttpEngineTest, ReadsForHowLongItIsToBeLeftAlone) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  answer_status = 429;
  const std::pair<const char*, std::optional<Millis>> table[] = {
      {"7", Millis{7'000}},
      {"0.5", Millis{500}},
      {"0", Millis{0}},
      {"100000", Millis{120'000}},
      {"-5", Millis{0}},
      {"soon", {}},
      {"", {}},
      {"nan", {}},
      {"Wed, 21 Oct 2015 07:28:00 GMT", {}},
  };
  for (const auto& [text, expected] : table) {
    answer_headers = {{"Retry-After", text}};
    EXPECT_EQ(send().retry_after, expected) << text;
  }
  answer_headers.clear();
  EXPECT_FALSE(send().retry_after);
}

TEST_F(HttpEngineTest, GoesDownWhenItCannotBeReachedAndComesBack) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  send();
  down();
  const Answer none = send();
  EXPECT_EQ(none.kind, Answer::Kind::died);
  EXPECT_FALSE(none.message.empty());
  EXPECT_FALSE(engine->ready());
  EXPECT_FALSE(engine->trouble().empty());
  EXPECT_EQ(engine->models(), (std::vector<std::string>{"m", "n"}));  // what it said when it was last up
  EXPECT_EQ(changes, 2);

  models = R"({"data":[{"id":"new"}]})";
  up();
  ASSERT_TRUE(until_ready_later());
  EXPECT_EQ(engine->models(), std::vector<std::string>{"new"});
  EXPECT_EQ(changes, 3);
  EXPECT_EQ(send().status, 200);
}

TEST_F(HttpEngineTest, SeesWithoutALineThatItHasOtherModelsOrIsGone) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  models = R"({"data":[{"id":"new"}]})";
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{100});
    return engine->models() == std::vector<std::string>{"new"};
  }));
  EXPECT_TRUE(engine->ready());
  EXPECT_EQ(changes, 2);
  models_status = 500;  // it may be busy
  const std::size_t asked = requests.size();
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{100});
    return requests.size() >= asked + 3;
  }));
  EXPECT_TRUE(engine->ready());
  models_status = 401;
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{100});
    return !engine->ready();
  }));
  EXPECT_NE(engine->trouble().find("401"), std::string::npos);
  models_status = 200;
  ASSERT_TRUE(until_ready_later());
  down();
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{100});
    return !engine->ready();
  }));
  EXPECT_EQ(changes, 5);
}

TEST_F(HttpEngineTest, SendsNoLineToAnEngineThatWasStartedAgainWithOtherModels) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  send();
  for (const bool kept : {true, false}) {
    down();
    models = kept ? R"({"data":[{"id":"x"}]})" : R"({"data":[{"id":"y"}]})";
    up();
    if (!kept) clock.advance(Millis{1'000});  // the closed connection is seen to be
    requests.clear();
    EXPECT_EQ(send().kind, kept ? Answer::Kind::died : Answer::Kind::unreachable);
    EXPECT_FALSE(engine->ready());
    ASSERT_TRUE(until_ready_later());
    EXPECT_EQ(std::count(requests.begin(), requests.end(), "POST /v1/chat/completions"), 0) << kept;
    EXPECT_EQ(send().kind, Answer::Kind::response);
  }
}

TEST_F(HttpEngineTest, NotFoundIsNotTheLinesOwnAlsoWhenItsModelWasSeenToBeGoneBefore) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  gate = true;
  answer_status = 404;
  Answer a, b;
  TaskGroup sending(loop);
  const auto one = [&](Answer& into) -> Task<> { into = co_await engine->send("/v1/chat/completions", "{}"); };
  sending.spawn("a", one(a));
  sending.spawn("b", one(b));
  ASSERT_TRUE(run_until(loop, [&] { return waiting == 2; }));
  models = R"({"data":[{"id":"n"}]})";
  gates[0]->notify();
  ASSERT_TRUE(run_until(loop, [&] { return sending.size() == 1; }));
  gates[1]->notify();
  ASSERT_TRUE(run_until(loop, [&] { return sending.size() == 0; }));
  EXPECT_EQ(a.kind, Answer::Kind::unreachable);
  EXPECT_EQ(b.kind, Answer::Kind::unreachable) << "status " << b.status;
}

TEST_F(HttpEngineTest, ModelsInAnotherOrderAreTheSame) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  models = R"({"data":[{"id":"n"},{"id":"m"}]})";
  Answer a, b;
  TaskGroup sending(loop);
  const auto one = [&](Answer& into) -> Task<> { into = co_await engine->send("/v1/chat/completions", "{}"); };
  sending.spawn("a", one(a));
  sending.spawn("b", one(b));
  ASSERT_TRUE(run_until(loop, [&] { return sending.size() == 0; }));
  EXPECT_EQ(a.kind, Answer::Kind::response);
  EXPECT_EQ(b.kind, Answer::Kind::response);
  EXPECT_TRUE(engine->ready());
}

TEST_F(HttpEngineTest, SendsNoLineToAnEngineThatCannotTellItsModels) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  down();
  models_status = answer_status = 503;  // started again, loading another model
  up();
  EXPECT_NE(send().kind, Answer::Kind::response);
  EXPECT_FALSE(engine->ready());
}

TEST_F(HttpEngineTest, NotFoundIsTheLinesOwnUnlessItsModelHasGone) {
  up();
  start();
  ASSERT_TRUE(until_ready());
  answer_status = 404;
  EXPECT_EQ(send().kind, Answer::Kind::response);
  EXPECT_EQ(send().status, 404);
  models = R"({"data":[{"id":"n"}]})";
  EXPECT_EQ(send().kind, Answer::Kind::unreachable);
  EXPECT_EQ(engine->models(), std::vector<std::string>{"n"});
  EXPECT_EQ(changes, 2);
  EXPECT_EQ(send().kind, Answer::Kind::response);
}

TEST_F(HttpEngineTest, AnEngineThatIsStillLoadingIsAskedAgainWithGrowingPauses) {
  up();
  models_status = 503;
  start();
  std::size_t asked = 0;
  for (const int pause : {100, 200, 400, 800, 1'600, 2'000, 2'000}) {
    ASSERT_TRUE(run_until(
        loop, [&] { return requests.size() == asked + 1 && engine->trouble().find("503") != std::string::npos; }));
    // The answer is read and the pause, of which a quarter is jitter, has begun once its alarm is the next one.
    const Moment now = clock.monotonic(), soonest = now + Millis{pause * 3 / 4}, latest = now + Millis{pause};
    ASSERT_TRUE(run_until(loop, [&] { return clock.has_alarm_within(soonest, latest); })) << pause;
    ++asked;
    clock.advance(Millis{pause * 3 / 4 - 1});
    poll(loop);
    EXPECT_EQ(requests.size(), asked) << pause;
    clock.advance(Millis{pause - (pause * 3 / 4 - 1)});
  }
  models_status = 200;
  ASSERT_TRUE(until_ready_later());
}

TEST_F(HttpEngineTest, ALineThatTakesTooLongIsATimeoutAndTheEngineStaysReady) {
  asio::ip::tcp::acceptor silent(loop, {asio::ip::address_v4::loopback(), 0});
  port = silent.local_endpoint().port();
  make("", {.endpoint = {}, .name = {}, .key = {}, .only_model = {}, .line_timeout = Millis{1'000}});
  std::optional<Answer> got;
  std::exception_ptr failure;
  tasks.spawn("send", keep_result(engine->send("/v1/chat/completions", "{}"), got, failure));
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{100});
    return got.has_value();
  }));
  EXPECT_EQ(got->kind, Answer::Kind::timeout);
  EXPECT_EQ(changes, 0);
}

TEST_F(HttpEngineTest, AsksForAStreamAndPutsItTogetherWhenToldTo) {
  up();
  HttpEngine::Options options;
  options.stream_answers = true;
  start("", std::move(options));
  ASSERT_TRUE(until_ready());
  const std::string plain = answer;
  answer = "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\ndata: [DONE]\n\n";
  answer_headers = {{"Content-Type", "text/event-stream; charset=utf-8"}, {"X-Request-Id", "r"}};
  Answer got = send(R"({"model":"m"})");
  EXPECT_EQ(body, R"({"stream_options":{"include_usage":true},"stream":true,"model":"m"})");
  EXPECT_EQ(got.kind, Answer::Kind::response);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.body, R"({"choices":[{"index":0,"text":"a"}]})");
  EXPECT_EQ(got.request_id, "r");

  answer = "data: {\"error\":{\"code\":429}}\n\n";
  got = send(R"({"model":"m"})");
  EXPECT_EQ(got.status, 429);
  EXPECT_EQ(got.body, R"({"error":{"code":429}})");

  answer_headers.clear();
  answer = plain;  // from an engine that knows no streams
  got = send(R"({"model":"m"})");
  EXPECT_EQ(got.kind, Answer::Kind::response);
  EXPECT_EQ(got.body, plain);
  got = run_task(loop, engine->send("/v1/embeddings", R"({"model":"m"})"));
  EXPECT_EQ(body, R"({"model":"m"})");
  EXPECT_EQ(got.body, plain);
}

TEST_F(HttpEngineTest, AStreamThatEndsTooEarlyIsAnAnswerThatWasCutOff) {
  up();
  HttpEngine::Options options;
  options.stream_answers = true;
  start("", std::move(options));
  ASSERT_TRUE(until_ready());
  answer = "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n";
  answer_headers = {{"Content-Type", "text/event-stream"}};
  EXPECT_EQ(send(R"({"model":"m"})").kind, Answer::Kind::broken);
  EXPECT_TRUE(engine->ready());
  models = R"({"data":[]})";
  models_status = 401;
  EXPECT_EQ(send(R"({"model":"m"})").kind, Answer::Kind::died);
  EXPECT_FALSE(engine->ready());
}

}  // namespace
}  // namespace penstock
