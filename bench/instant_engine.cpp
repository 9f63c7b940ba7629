#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>

#include "base/error.h"
#include "base/log.h"
#include "net/http_server.h"

// An engine that answers at once, and always the same: what is left of a line's time is Penstock's own.
namespace penstock {
namespace {

constexpr std::size_t kBodySizeMax = 64 << 20;

// About 600 bytes, as servers of models answer a short question.
constexpr const char* kAnswer =
    R"({{"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion","created":1741570283,"model":"{}",)"
    R"("choices":[{{"index":0,"message":{{"role":"assistant","content":"The review is positive: the writer praises )"
    R"(the battery and the screen, finds the keyboard a little loud, and would buy the same machine again.\n)"
    R"(Sentiment: positive","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{)"
    R"("prompt_tokens":112,"completion_tokens":36,"total_tokens":148,"prompt_tokens_details":{{"cached_tokens":64}},)"
    R"("completion_tokens_details":{{"reasoning_tokens":0}}}},"service_tier":"default","system_fingerprint":)"
    R"("fp_fc9f1d7035"}})";

class InstantEngine {
 public:
  InstantEngine(Clock& clock, const std::string& model, Millis delay)
      : clock_(clock),
        delay_(delay),
        models_(fmt::format(
            R"({{"object":"list","data":[{{"id":"{}","object":"model","created":0,"owned_by":"bench"}}]}})", model)),
        answer_(fmt::format(fmt::runtime(kAnswer), model)) {}

  Task<Response> handle(Request& request) {
    const std::string body = co_await read_all(*request.body, kBodySizeMax);
    if (request.path == "/v1/models") co_return json(models_);
    if (request.path == "/stats")
      co_return json(fmt::format(R"({{"first_request":{:.6f},"last_answer":{:.6f}}})", first_request_, last_answer_));
    if (!request.path.starts_with("/v1/") || request.method != "POST") throw HttpError(404, "there is no such path");
    if (first_request_ == 0) first_request_ = monotonic_seconds();
    if (delay_ > Millis{0}) co_await sleep_until(clock_, clock_.monotonic() + delay_);
    last_answer_ = monotonic_seconds();
    co_return json(answer_);
  }

 private:
  // As time.monotonic() in Python.
  static double monotonic_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  static Response json(const std::string& body) {
    Response response;
    response.headers.add("Content-Type", "application/json");
    response.body = body;
    return response;
  }

  Clock& clock_;
  Millis delay_;
  std::string models_, answer_;
  double first_request_ = 0, last_answer_ = 0;
};

Task<> serve_until_signal(HttpServer& server, TaskGroup& tasks, asio::signal_set& signals) {
  tasks.spawn("http server", server.run());
  co_await signals.async_wait(asio::use_awaitable);
  co_await server.stop(Millis{0});
  tasks.cancel();
  co_await tasks.join();
}

int run(int argc, char** argv) {
  CLI::App app("An OpenAI-compatible engine that answers every request at once with the same text.", "instant_engine");
  HttpServer::Options options;
  std::string model = "bench";
  std::int64_t delay_ms = 0;
  app.add_option("--port", options.port, "port on 127.0.0.1; 0 takes a free one")->capture_default_str();
  app.add_option("--model", model, "the name of the one model it serves")->capture_default_str();
  app.add_option("--delay-ms", delay_ms, "time it takes for each answer")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  asio::io_context loop(1);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  SystemClock clock(loop);
  InstantEngine engine(clock, model, Millis{delay_ms});
  HttpServer server(loop, clock, options, [&](Request& request) { return engine.handle(request); });
  server.listen();
  std::printf("%u\n", static_cast<unsigned>(server.port()));
  std::fflush(stdout);
  TaskGroup tasks(loop);
  run_until_done(loop, serve_until_signal(server, tasks, signals));
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return penstock::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "instant_engine: %s\n", e.what());
    return 1;
  }
}
