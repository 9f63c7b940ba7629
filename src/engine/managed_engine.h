#pragma once
#include <deque>

#include "base/child.h"
#include "engine/http_engine.h"

namespace penstock {

// A llama-server that Penstock starts and keeps alive, on a unix socket of its own. When it ends it is started again,
// with growing pauses; when we end, however, the kernel ends it.
class ManagedEngine : public Engine {
 public:
  struct Options {
    std::string program;  // llama-server: a path, or a name in PATH
    std::string model;    // the name that lines ask for
    std::string gguf;     // the file it loads
    std::string socket;   // path of the socket, ending in ".sock"; removed before each start
    int slots = 8;
    int context = 4096;                   // tokens a slot
    std::vector<std::string> extra_args;  // handed through
    Millis line_timeout{600'000};
  };

  ManagedEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed);

  Task<> run() override;
  Task<Answer> send(std::string_view path, std::string_view body) override { return http_.send(path, body); }
  const std::string& name() const override { return options_.model; }
  int slots() const override { return options_.slots; }
  bool ready() const override { return http_.ready(); }
  // Known from the start: the operator named it.
  const std::vector<std::string>& models() const override { return models_; }
  const std::string& trouble() const override { return trouble_; }
  bool hopeless() const override { return failed_starts_ >= 3; }

 private:
  std::vector<std::string> argv() const;
  Task<> read_output(std::shared_ptr<Child> child);

  asio::io_context& loop_;
  Clock& clock_;
  Options options_;
  std::vector<std::string> models_;
  HttpEngine http_;
  std::deque<std::string> last_words_;
  int failed_starts_ = 0;  // and ends, since it was last ready
  std::string trouble_ = "it is loading its model";
  TaskGroup probe_, output_;
};

}  // namespace penstock
