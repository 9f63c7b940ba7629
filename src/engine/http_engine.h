#pragma once
#include <random>

#include "engine/engine.h"
#include "net/http_client.h"

namespace penstock {

// An engine at a URL: vLLM, SGLang, llama-server, or anything that speaks OpenAI's API. Its models are what GET
// /v1/models says. It is probed all the time: with growing pauses until it is up, then to see whether it is still there
// and has the same models. A new connection begins with the same question, so that no line gets to an engine that was
// started again with another model.
class HttpEngine : public Engine {
 public:
  struct Options {
    Endpoint endpoint;       // a base path may end in /v1 or leave it out
    std::string name;        // for messages
    std::string key;         // sent as a bearer token when it is not empty
    int slots = 0;           // 0: what its /props say, which llama-server has; else not known
    std::string only_model;  // serve this model alone, also when the engine does not list its models
    Millis line_timeout{600'000};
    bool stream_answers = false;  // ask for streams and put them together, so that bytes flow to whoever stands between
    Millis probe_pause_max{2'000};  // while it is not up
  };

  HttpEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed);

  Task<> run() override;
  Task<Answer> send(std::string_view path, std::string_view body, std::size_t shared_ahead = 0,
                    std::string_view traceparent = {}) override;
  const std::string& name() const override { return options_.name; }
  int slots() const override { return options_.slots > 0 ? options_.slots : told_slots_; }
  Task<std::optional<Load>> load() override;
  bool ready() const override { return ready_; }
  const std::vector<std::string>& models() const override { return models_; }
  const std::string& trouble() const override { return trouble_; }

  // For its supervisor, which saw it end or is about to end it.
  void mark_down();

 private:
  struct Problem {
    std::string message;
    bool certain;  // it is gone, refuses our key or serves something else; otherwise it may just be busy
  };

  // What an answer to GET /v1/models tells.
  boost::system::result<std::vector<std::string>, Problem> models_in(const ClientResponse& response) const;
  // What a GET is answered; nothing when no answer comes soon.
  Task<std::optional<ClientResponse>> ask(std::string_view path);
  // Asks for its models once; what is wrong, or nothing when it is up.
  Task<std::optional<Problem>> probe();
  // Probes it although it was ready.
  Task<> look_again();
  // What an answer is that ended in the middle.
  Task<Answer::Kind> cut_short();
  // With jitter, so that not all who wait for an engine come at once.
  Task<> pause(Millis time);

  Clock& clock_;
  Options options_;
  EngineChanged changed_;
  HttpClient client_;
  std::string headers_;
  std::vector<std::string> models_;
  int models_changes_ = 0;
  int told_slots_ = 0;
  bool ready_ = false;
  std::optional<bool> tells_load_;  // nothing while it is not known
  std::string trouble_ = "not asked yet";
  Event down_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace penstock
