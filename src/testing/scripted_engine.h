#pragma once
#include <algorithm>
#include <list>

#include "engine/engine.h"

namespace penstock {

inline Answer answered(int status, std::string body) {
  Answer answer;
  answer.status = status;
  answer.body = std::move(body);
  return answer;
}

inline Answer no_answer(Answer::Kind kind, std::string message = "said the script") {
  Answer answer;
  answer.kind = kind;
  answer.message = std::move(message);
  return answer;
}

// An engine whose answers a test writes and holds back as it likes. Loop thread only.
class ScriptedEngine : public Engine {
 public:
  struct Options {
    std::string name = "scripted";
    int slots = 4;
    std::vector<std::string> models = {"m"};
  };

  ScriptedEngine(asio::io_context& loop, EngineChanged changed, Options options)
      : loop_(loop), changed_(std::move(changed)), options_(std::move(options)) {}

  // What it answers to a body, asked when the answer is let go. The first one says what it was asked.
  std::function<Answer(const std::string& body)> script = [](const std::string& body) {
    return answered(200, R"({"echo":)" + body + R"(,"usage":{"prompt_tokens":3,"completion_tokens":2}})");
  };

  // All that was sent, in order.
  std::vector<std::string> bodies;
  int most_in_flight = 0;
  int cancelled = 0;

  // Why it is not ready, and whether it ever will be.
  std::string words = "the script has it down";
  bool without_hope = false;

  int in_flight() const { return in_flight_; }

  // Answers wait from now on, until release().
  void hold() { holding_ = true; }
  // Lets go the answers that have waited longest, or all, and then holds no more.
  void release(int count) {
    for (Held& held : held_) {
      if (count > 0 && !held.released) {
        held.released = true;
        held.gate.notify();
        --count;
      }
    }
  }
  void release() {
    holding_ = false;
    release(static_cast<int>(held_.size()));
  }

  // Going down answers `died` to all that is under way.
  void set_ready(bool ready) {
    ready_ = ready;
    if (!ready) release(static_cast<int>(held_.size()));
    changed_();
  }
  void set_slots(int slots) { options_.slots = slots; }
  void set_models(std::vector<std::string> models) {
    options_.models = std::move(models);
    changed_();
  }

  Task<> run() override {
    changed_();
    Event never(loop_);
    co_await never.wait();
  }

  Task<Answer> send(std::string_view path, std::string_view body_view, std::size_t = 0,
                    std::string_view traceparent = {}) override {
    const std::string body(body_view);
    traceparents.emplace_back(traceparent);
    bodies.push_back(body);
    last_path = path;
    const UnderWay under_way(*this);
    if (!ready_) co_return no_answer(Answer::Kind::unreachable);
    if (holding_) {
      const Waiting waiting(*this);
      co_await waiting.place->gate.wait();
      waiting.answered = true;
    }
    if (!ready_) co_return no_answer(Answer::Kind::died);
    Answer answer = script(body);
    if (answer.kind == Answer::Kind::unreachable || answer.kind == Answer::Kind::died) set_ready(false);
    co_return answer;
  }

  std::optional<Load> tells;
  Task<std::optional<Load>> load() override { co_return tells; }

  const std::string& name() const override { return options_.name; }
  int slots() const override { return options_.slots; }
  bool ready() const override { return ready_; }
  const std::vector<std::string>& models() const override { return options_.models; }
  const std::string& trouble() const override { return words; }
  bool hopeless() const override { return without_hope; }

  std::string last_path;
  std::vector<std::string> traceparents;  // of all requests, in the order of `bodies`

 private:
  struct Held {
    explicit Held(asio::io_context& loop) : gate(loop) {}
    Event gate;
    bool released = false;
  };
  struct UnderWay {
    explicit UnderWay(ScriptedEngine& e) : engine(e) {
      engine.most_in_flight = std::max(engine.most_in_flight, ++engine.in_flight_);
    }
    ~UnderWay() { --engine.in_flight_; }
    ScriptedEngine& engine;
  };
  struct Waiting {
    explicit Waiting(ScriptedEngine& e) : engine(e), place(e.held_.emplace(e.held_.end(), e.loop_)) {}
    ~Waiting() {
      engine.held_.erase(place);
      if (!answered) ++engine.cancelled;
    }
    ScriptedEngine& engine;
    const std::list<Held>::iterator place;
    mutable bool answered = false;
  };

  asio::io_context& loop_;
  EngineChanged changed_;
  Options options_;
  bool ready_ = true, holding_ = false;
  int in_flight_ = 0;
  std::list<Held> held_;
};

}  // namespace penstock
