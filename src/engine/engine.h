#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async.h"

namespace penstock {

// What came of sending one line to an engine.
struct Answer {
  enum class Kind {
    response,     // `status` and `body`
    unreachable,  // the line did not get there: that says nothing about it
    died,         // the engine went away with the line under way, and the line may be why
    broken,       // closed in the middle, or not HTTP
    timeout,
    too_large
  };
  Kind kind = Kind::response;
  int status = 0;
  std::string body, request_id;
  std::optional<Millis> retry_after;
  std::string message;  // for a person, when there is no response
};

// What an engine tells of itself.
struct Load {
  double running = 0, waiting = 0;  // requests of all its clients
  double cache = 0;                 // the share of its KV cache that is in use
};

enum class EngineState {
  ready,
  starting,
  standby,  // it makes room for another model of its device
  down,
  failed  // it has failed to start several times in a row, and is not expected to serve
};
std::string_view to_string(EngineState state);

// Something that answers one OpenAI request over HTTP. Loop thread only.
class Engine {
 public:
  virtual ~Engine() = default;

  // Gets it up and keeps it up, until cancelled.
  virtual Task<> run() = 0;

  // One request. `path` is an endpoint such as "/v1/chat/completions". The next body that this engine gets will
  // probably begin with the first `shared_ahead` bytes of this one. `traceparent`, where it is not empty, tells the
  // engine which trace this belongs to. An answer `unreachable` or `died` makes the engine
  // not ready until it has been seen up again, unless it was seen to have other models by now. Cancelling tells the
  // engine to give up.
  virtual Task<Answer> send(std::string_view path, std::string_view body, std::size_t shared_ahead = 0,
                            std::string_view traceparent = {}) = 0;

  virtual const std::string& name() const = 0;
  // How many requests at a time it answers best; 0: that is to be found out.
  virtual int slots() const = 0;
  // Asks for its load. Nothing when it does not tell, or not now.
  virtual Task<std::optional<Load>> load() { co_return std::nullopt; }
  virtual bool ready() const = 0;
  // What it said when it was last up; empty before it ever was.
  virtual const std::vector<std::string>& models() const = 0;
  // Why it is not ready, in words for a person; empty when nothing is wrong, and it only makes room for another.
  virtual const std::string& trouble() const = 0;
  // Removes from the disk what it keeps there only to be quicker.
  virtual void spare_disk() {}
  // It has failed to start several times in a row, and is not expected to serve.
  virtual bool hopeless() const { return false; }
  // It is a program that we start; else it is somewhere, and we call it.
  virtual bool is_managed() const { return false; }
  // It loads, and nothing has gone wrong yet.
  virtual bool starting() const { return false; }
};

// Called, on the loop thread, whenever ready(), models() or hopeless() of an engine has changed.
using EngineChanged = std::function<void()>;

}  // namespace penstock
