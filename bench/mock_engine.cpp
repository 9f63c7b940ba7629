#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <random>

#include "base/error.h"
#include "base/log.h"
#include "net/http_server.h"
#include "step_model.h"

// An OpenAI-compatible engine that computes nothing, but takes its time over it as a GPU with continuous batching does:
// step_model.h says how. What a request costs depends on what runs beside it and on what is cached.
//
// A token is 4 bytes of the rendered prompt: the tools, then of each message its role and its content. An answer has
// max_tokens tokens with `ignore_eos`, else a length drawn from a lognormal distribution (median 148, mean 204), seeded
// by the prompt, with max_tokens as its limit. A client that leaves frees its sequence.
namespace penstock {
namespace {

namespace json = boost::json;
using SteadyTime = std::chrono::steady_clock::time_point;

constexpr std::size_t kBodySizeMax = 64 << 20;
constexpr std::chrono::milliseconds kGoneCheckPeriod{20};
// A step that ends later than this was short of a core, and the next ones begin later. Smaller delays are the timer's,
// and are made good.
constexpr std::chrono::milliseconds kLateMax{5};
constexpr std::int64_t kOutputTokensMax = 4096;  // where the client gives no limit
constexpr double kOutputLogMean = 5.0, kOutputLogDeviation = 0.8;

struct Settings {
  StepModel::Options model;
  std::vector<std::string> models = {"mock"};
  double speed = 1, slower = 1;
  std::size_t queue_max = SIZE_MAX;
};

// What a client asks for.
struct Job {
  bool chat;
  bool stream, include_usage;
  std::string model;
  std::string prompt;
  std::int64_t tokens_max;
  bool ignore_eos;
};

std::string json_string(std::string_view text) {
  return json::serialize(json::string(text));
}

std::string render_content(const json::value& content) {
  if (const auto* text = content.if_string()) return std::string(*text);
  const auto* parts = content.if_array();
  if (!parts) return {};
  std::string all;
  for (const json::value& part : *parts) {
    const auto* object = part.if_object();
    const auto* text = object ? object->if_contains("text") : nullptr;
    all += text && text->is_string() ? std::string(text->get_string()) : json::serialize(part);
  }
  return all;
}

std::string render_chat(const json::object& body) {
  std::string prompt;
  if (const auto* tools = body.if_contains("tools")) prompt += json::serialize(*tools) + "\n";
  const auto* messages = body.if_contains("messages");
  if (!messages || !messages->is_array()) throw HttpError(400, "messages is missing or no array");
  for (const json::value& message : messages->get_array()) {
    const auto* object = message.if_object();
    const auto* role = object ? object->if_contains("role") : nullptr;
    if (!role || !role->is_string()) throw HttpError(400, "a message has no role");
    prompt.append(role->get_string()).append("\n");
    if (const auto* content = object->if_contains("content")) prompt += render_content(*content);
    prompt += "\n";
  }
  return prompt;
}

bool is_true(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value && value->is_bool() && value->get_bool();
}

std::int64_t tokens_max_of(const json::object& body) {
  for (const char* key : {"max_completion_tokens", "max_tokens"}) {
    const auto* value = body.if_contains(key);
    if (!value || value->is_null()) continue;
    if (!value->is_int64() || value->get_int64() < 1)
      throw HttpError(400, fmt::format("{} is no positive number", key));
    return value->get_int64();
  }
  return kOutputTokensMax;
}

Job parse_job(bool chat, const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* body = value.if_object();
  if (error || !body) throw HttpError(400, "the body is no JSON object");
  Job job{.chat = chat,
          .stream = is_true(*body, "stream"),
          .include_usage = false,
          .model = {},
          .prompt = {},
          .tokens_max = tokens_max_of(*body),
          .ignore_eos = is_true(*body, "ignore_eos")};
  if (const auto* options = body->if_contains("stream_options"); options && options->is_object())
    job.include_usage = is_true(options->get_object(), "include_usage");
  if (const auto* model = body->if_contains("model"); model && model->is_string()) job.model = model->get_string();
  if (chat) {
    job.prompt = render_chat(*body);
  } else {
    const auto* prompt = body->if_contains("prompt");
    if (!prompt || !prompt->is_string()) throw HttpError(400, "prompt is missing or no string");
    job.prompt = prompt->get_string();
  }
  return job;
}

std::int64_t output_tokens_of(const Job& job, std::uint64_t seed) {
  if (job.ignore_eos) return job.tokens_max;
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> length(kOutputLogMean, kOutputLogDeviation);
  return std::clamp(static_cast<std::int64_t>(length(random)), std::int64_t{1}, job.tokens_max);
}

// `count` tokens from the `first` on, of an answer that belongs to that prompt.
std::string words(std::uint64_t seed, std::int64_t first, std::int64_t count) {
  static constexpr std::string_view kWords = "the cat sat and saw one red fox who ran far off and big oak log bed ";
  static_assert(kWords.size() % kTokenBytes == 0);
  std::string text;
  for (std::int64_t i = first; i < first + count; ++i) {
    const auto word = (seed + static_cast<std::uint64_t>(i)) % (kWords.size() / kTokenBytes);
    text += kWords.substr(word * kTokenBytes, kTokenBytes);
  }
  return text;
}

class MockEngine {
 public:
  MockEngine(asio::io_context& loop, Settings settings)
      : loop_(loop), settings_(std::move(settings)), model_(settings_.model), work_(loop) {}

  Task<Response> handle(Request& request);
  // Computes step after step until cancelled.
  Task<> run();

 private:
  class Generation;
  class TokenStream;

  Task<Response> complete(Request& request, bool chat);
  void end_step();
  void remove_gone();
  std::string metrics() const;
  std::string stats(const Request& request) const;
  void count_in_flight();  // call it before the number of generations changes

  asio::io_context& loop_;
  const Settings settings_;
  StepModel model_;
  Event work_;
  std::unordered_map<StepModel::Id, Generation*> generations_;  // without those that have all their tokens
  SteadyTime gone_checked_{};

  // For /stats.
  double late_seconds_ = 0;
  std::optional<SteadyTime> first_arrival_;
  SteadyTime counted_until_{};
  double in_flight_seconds_ = 0;  // generations times seconds
  struct Finish {
    double seconds;  // since the first arrival
    double in_flight_seconds;
  };
  std::vector<Finish> finishes_;
};

// One request under way: from its arrival until its client has its answer or has left.
class MockEngine::Generation {
 public:
  Generation(MockEngine& engine, const Request& request, Job the_job)
      : job(std::move(the_job)), engine_(engine), request_(request), news_(engine.loop_) {
    Prompt prompt(job.prompt);
    job.prompt.clear();
    prompt_tokens = prompt.tokens;
    seed = prompt.hash;
    output_tokens = output_tokens_of(job, seed);
    const auto added = engine_.model_.add(std::move(prompt), output_tokens);
    if (!added)
      throw HttpError(400, fmt::format("{} tokens of prompt and {} of output do not fit into the cache", prompt_tokens,
                                       output_tokens));
    id_ = *added;
    engine_.count_in_flight();
    engine_.generations_[id_] = this;
    engine_.work_.notify();
  }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  ~Generation() {
    engine_.count_in_flight();
    engine_.generations_.erase(id_);
    engine_.model_.remove(id_);
  }

  StepModel::Id id() const { return id_; }
  bool done() const { return made == output_tokens; }

  void add_token(std::int64_t the_cached) {
    cached = the_cached;
    ++made;
    if (job.stream || done()) news_.notify();
  }
  void check_client() {
    if (!request_.client_gone()) return;
    gone_ = true;
    news_.notify();
  }
  Task<> wait() {
    co_await news_.wait();
    if (gone_) throw ClientGone("the client has closed the connection before its answer was complete");
  }

  std::string usage() const {
    return fmt::format(
        R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}})",
        prompt_tokens, made, prompt_tokens + made, cached);
  }
  const char* finish_reason() const { return output_tokens == job.tokens_max ? "length" : "stop"; }

  Job job;
  std::int64_t prompt_tokens, output_tokens;
  std::uint64_t seed;
  std::int64_t made = 0, cached = 0;
  const std::time_t created = std::time(nullptr);

 private:
  MockEngine& engine_;
  const Request& request_;
  Event news_;
  StepModel::Id id_;
  bool gone_ = false;
};

// The answer as server-sent events, each with the tokens that came since the last one.
class MockEngine::TokenStream : public ByteSource {
 public:
  explicit TokenStream(std::unique_ptr<Generation> generation) : generation_(std::move(generation)) {}

  Task<std::string_view> next() override {
    if (ended_) co_return std::string_view();
    while (sent_ == generation_->made) co_await generation_->wait();
    const Generation& g = *generation_;
    const std::string text = json_string(words(g.seed, sent_, g.made - sent_));
    const std::string choice =
        g.job.chat ? fmt::format(R"("delta":{{{}"content":{}}})", sent_ == 0 ? R"("role":"assistant",)" : "", text)
                   : fmt::format(R"("text":{})", text);
    sent_ = g.made;
    const std::string reason = g.done() ? fmt::format(R"("{}")", g.finish_reason()) : "null";
    piece_ = event(fmt::format(R"({{"index":0,{},"logprobs":null,"finish_reason":{}}})", choice, reason), "");
    if (g.done()) {
      if (g.job.include_usage) piece_ += event("", fmt::format(R"(,"usage":{})", g.usage()));
      piece_ += "data: [DONE]\n\n";
      ended_ = true;
    }
    co_return piece_;
  }

 private:
  std::string event(std::string_view choices, std::string_view rest) const {
    const Generation& g = *generation_;
    return fmt::format(
        "data: "
        R"({{"id":"{}-{}","object":"{}","created":{},"model":{},"choices":[{}]{}}})"
        "\n\n",
        g.job.chat ? "chatcmpl" : "cmpl", g.id(), g.job.chat ? "chat.completion.chunk" : "text_completion", g.created,
        json_string(g.job.model), choices, rest);
  }

  std::unique_ptr<Generation> generation_;
  std::int64_t sent_ = 0;
  bool ended_ = false;
  std::string piece_;
};

Response text_response(std::string type, std::string body) {
  Response response;
  response.headers.add("Content-Type", std::move(type));
  response.body = std::move(body);
  return response;
}

Response error_response(int status, const std::string& message) {
  Response response =
      text_response("application/json",
                    fmt::format(R"({{"error":{{"message":{},"type":"{}","param":null,"code":{}}}}})",
                                json_string(message), status < 500 ? "invalid_request_error" : "server_error", status));
  response.status = status;
  return response;
}

Task<Response> MockEngine::handle(Request& request) {
  if (request.path == "/v1/chat/completions") co_return co_await complete(request, true);
  if (request.path == "/v1/completions") co_return co_await complete(request, false);
  if (request.path == "/metrics") co_return text_response("text/plain; version=0.0.4", metrics());
  if (request.path == "/stats") co_return text_response("application/json", stats(request));
  if (request.path == "/health") co_return text_response("application/json", "{}");
  if (request.path != "/v1/models") co_return error_response(404, "there is no such path");
  std::string models;
  for (const std::string& model : settings_.models)
    models += fmt::format(R"({}{{"id":{},"object":"model","created":0,"owned_by":"mock"}})", models.empty() ? "" : ",",
                          json_string(model));
  co_return text_response("application/json", fmt::format(R"({{"object":"list","data":[{}]}})", models));
}

Task<Response> MockEngine::complete(Request& request, bool chat) {
  if (request.method != "POST") co_return error_response(405, "only POST is allowed here");
  const std::string body = co_await read_all(*request.body, kBodySizeMax);
  std::unique_ptr<Generation> generation;
  try {
    Job job = parse_job(chat, body);
    if (std::find(settings_.models.begin(), settings_.models.end(), job.model) == settings_.models.end())
      co_return error_response(404, fmt::format("The model `{}` does not exist.", job.model));
    if (model_.waiting() >= settings_.queue_max) {
      Response busy = error_response(503, "The queue is full.");
      busy.headers.add("Retry-After", "1");
      co_return busy;
    }
    generation = std::make_unique<Generation>(*this, request, std::move(job));
  } catch (const HttpError& e) {
    co_return error_response(e.status(), e.what());
  }
  if (generation->job.stream) {
    Response response = text_response("text/event-stream; charset=utf-8", "");
    response.stream = std::make_unique<TokenStream>(std::move(generation));
    co_return response;
  }
  while (!generation->done()) co_await generation->wait();
  const Generation& g = *generation;
  const std::string text = json_string(words(g.seed, 0, g.made));
  const std::string answer =
      chat ? fmt::format(R"("message":{{"role":"assistant","content":{}}})", text) : fmt::format(R"("text":{})", text);
  co_return text_response(
      "application/json",
      fmt::format(R"({{"id":"{}-{}","object":"{}","created":{},"model":{},"choices":[{{"index":0,{},"logprobs":null,)"
                  R"("finish_reason":"{}"}}],"usage":{}}})",
                  chat ? "chatcmpl" : "cmpl", g.id(), chat ? "chat.completion" : "text_completion", g.created,
                  json_string(g.job.model), answer, g.finish_reason(), g.usage()));
}

Task<> MockEngine::run() {
  asio::steady_timer timer(loop_);
  SteadyTime due{};
  while (true) {
    remove_gone();
    if (model_.idle()) {
      co_await work_.wait();
      due = std::chrono::steady_clock::now();
      continue;
    }
    const Micros time = model_.begin_step() * (settings_.slower / settings_.speed);
    due += std::chrono::duration_cast<std::chrono::steady_clock::duration>(time);
    timer.expires_at(due);
    co_await timer.async_wait(asio::use_awaitable);
    if (const auto now = std::chrono::steady_clock::now(); now > due + kLateMax) {
      late_seconds_ += std::chrono::duration<double>(now - due).count();
      due = now;
    }
    end_step();
  }
}

void MockEngine::end_step() {
  for (const StepModel::Token& token : model_.end_step()) {
    if (token.last) {
      count_in_flight();
      finishes_.push_back(
          {std::chrono::duration<double>(counted_until_ - *first_arrival_).count(), in_flight_seconds_});
    }
    generations_.at(token.id)->add_token(token.cached);
    if (token.last) generations_.erase(token.id);
  }
}

void MockEngine::remove_gone() {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now < gone_checked_ + kGoneCheckPeriod) return;
  gone_checked_ = now;
  for (const auto& [id, generation] : generations_) generation->check_client();
}

void MockEngine::count_in_flight() {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (!first_arrival_) first_arrival_ = counted_until_ = now;
  in_flight_seconds_ +=
      std::chrono::duration<double>(now - counted_until_).count() * static_cast<double>(generations_.size());
  counted_until_ = now;
}

std::string MockEngine::metrics() const {
  const StepModel::Counters& c = model_.counters();
  std::string text;
  const auto add = [&](const char* type, const char* name, auto value) {
    text += fmt::format("# TYPE vllm:{0} {1}\nvllm:{0}{{engine=\"0\",model_name=\"{2}\"}} {3}\n", name, type,
                        settings_.models.front(), value);
  };
  add("gauge", "num_requests_running", model_.running());
  add("gauge", "num_requests_waiting", model_.waiting());
  add("gauge", "kv_cache_usage_perc", model_.cache_usage());
  add("counter", "prompt_tokens_total", c.prompt_tokens);
  add("counter", "generation_tokens_total", c.generated_tokens);
  add("counter", "prefix_cache_queries_total", c.prompt_tokens);
  add("counter", "prefix_cache_hits_total", c.cached_tokens);
  add("counter", "num_preemptions_total", c.preemptions);
  return text;
}

// What the benchmarks want to know. Times are the engine's own: those of the machine, times `speed`. `mean_in_flight`
// is over `until_seconds`: from the first arrival to the answer whose number `?finished=` gives, or to the last one.
std::string MockEngine::stats(const Request& request) const {
  const StepModel::Counters& c = model_.counters();
  std::size_t until = finishes_.size();
  if (const auto number = query_param(request.query, "finished")) {
    std::size_t wanted = until;
    std::from_chars(number->data(), number->data() + number->size(), wanted);
    until = std::min(until, wanted);
  }
  const double span = finishes_.empty() ? 0 : finishes_.back().seconds;
  const Finish finish = until == 0 ? Finish{} : finishes_[until - 1];
  return fmt::format(
      R"({{"steps":{},"step_seconds":{:.4f},"span_seconds":{:.4f},"late_seconds":{:.4f},"finished":{},"in_flight":{},)"
      R"("until_seconds":{:.4f},"mean_in_flight":{:.3f},"prompt_tokens":{},"cached_tokens":{},"computed_tokens":{},)"
      R"("generated_tokens":{},"preemptions":{}}})",
      c.steps, c.time.count() / 1e6 * settings_.slower, span * settings_.speed, late_seconds_ * settings_.speed,
      finishes_.size(), generations_.size(), finish.seconds * settings_.speed,
      finish.seconds > 0 ? finish.in_flight_seconds / finish.seconds : 0, c.prompt_tokens, c.cached_tokens,
      c.computed_tokens, c.generated_tokens, c.preemptions);
}

Task<> serve_until_signal(HttpServer& server, MockEngine& engine, TaskGroup& tasks, asio::signal_set& signals) {
  tasks.spawn("steps", engine.run());
  tasks.spawn("http server", server.run());
  co_await signals.async_wait(asio::use_awaitable);
  co_await server.stop(Millis{0});
  tasks.cancel();
  co_await tasks.join();
}

int run(int argc, char** argv) {
  CLI::App app("An OpenAI-compatible engine that takes its time as one with continuous batching does.", "mock_engine");
  HttpServer::Options options;
  Settings settings;
  app.add_option("--port", options.port, "port on 127.0.0.1; 0 takes a free one")->capture_default_str();
  app.add_option("--model", settings.models, "the name of a model it serves; repeatable, all share one cache")
      ->capture_default_str();
  app.add_option("--speed", settings.speed, "divides all times")->capture_default_str();
  app.add_option("--slower", settings.slower, "multiplies the times of steps")->capture_default_str();
  app.add_option("--sequences", settings.model.sequences_max, "sequences that run at a time")->capture_default_str();
  app.add_option("--step-tokens", settings.model.step_tokens_max, "tokens computed in a step")->capture_default_str();
  app.add_option("--blocks", settings.model.blocks, "size of the cache, in blocks of 16 tokens")->capture_default_str();
  app.add_option("--queue-max", settings.queue_max, "waiting requests, beyond which it answers 503");
  CLI11_PARSE(app, argc, argv);

  asio::io_context loop(1);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  SystemClock clock(loop);
  MockEngine engine(loop, settings);
  HttpServer server(loop, clock, options, [&](Request& request) { return engine.handle(request); });
  server.listen();
  std::printf("%u\n", static_cast<unsigned>(server.port()));
  std::fflush(stdout);
  TaskGroup tasks(loop);
  run_until_done(loop, serve_until_signal(server, engine, tasks, signals));
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return penstock::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mock_engine: %s\n", e.what());
    return 1;
  }
}
