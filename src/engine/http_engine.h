#pragma once
#include "engine/engine.h"
#include "net/http_client.h"

namespace penstock {

// An engine at a URL: vLLM, SGLang, llama-server, or anything that speaks OpenAI's API. Its models are what GET
// /v1/models says. When it goes away it is probed, with growing pauses, until it is back.
class HttpEngine : public Engine {
 public:
  struct Options {
    Endpoint endpoint;  // a base path may end in /v1 or leave it out
    std::string name;   // for messages
    std::string key;    // sent as a bearer token when it is not empty
    int slots = 64;
    std::string only_model;  // serve this model alone, also when the engine does not list its models
    Millis line_timeout{600'000};
  };

  HttpEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed);

  Task<> run() override;
  Task<Answer> send(std::string_view path, std::string_view body) override;
  const std::string& name() const override { return options_.name; }
  int slots() const override { return options_.slots; }
  bool ready() const override { return ready_; }
  const std::vector<std::string>& models() const override { return models_; }
  const std::string& trouble() const override { return trouble_; }

  // For its supervisor, which saw it end.
  void mark_down();

 private:
  std::string target(std::string_view path) const;
  // Asks for its models once; what is wrong in words, or nothing when it is up.
  Task<std::optional<std::string>> probe();

  Clock& clock_;
  Options options_;
  EngineChanged changed_;
  HttpClient client_;
  std::string headers_;
  std::vector<std::string> models_;
  bool ready_ = false;
  std::string trouble_ = "not asked yet";
  Event down_;
};

}  // namespace penstock
