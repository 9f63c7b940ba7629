#pragma once
#include <deque>

#include "base/child.h"
#include "base/log_file.h"
#include "engine/command_template.h"
#include "engine/http_engine.h"
#include "engine/prefix_slots.h"

namespace penstock {

// A program that Penstock starts to serve one model, and keeps alive. When it ends by itself it is started again, with
// growing pauses; when we end, however, the kernel ends it. How long it takes to load its model is its own matter.
//
// It runs only while it is wanted, which it is not at first: see Swapper.
class ManagedEngine : public Engine {
 public:
  struct Options {
    std::string model;  // the name that lines ask for
    std::string path;   // of the model, as the program is told
    CommandTemplate command;
    std::map<std::string, std::string> env;  // beside our own
    std::string socket;                      // path, ending in ".sock"; removed before each start
    std::string slot_folder;                 // for the states of slots, where the command has a place for it
    std::string log;                         // path of a file for the program's output
    int slots = 8;                           // 0: to be found out
    int context = 4096;                      // tokens a slot
    Millis line_timeout{600'000};
  };

  ManagedEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed);

  Task<> run() override;
  Task<Answer> send(std::string_view path, std::string_view body, std::size_t shared_ahead = 0,
                    std::string_view traceparent = {}) override;
  const std::string& name() const override { return options_.model; }
  int slots() const override { return http_ ? http_->slots() : options_.slots; }
  Task<std::optional<Load>> load() override;
  bool ready() const override { return wanted_ && http_ && http_->ready(); }
  // Known from the start: the operator named it.
  const std::vector<std::string>& models() const override { return models_; }
  const std::string& trouble() const override { return trouble_; }
  bool hopeless() const override;
  bool is_managed() const override { return true; }
  bool starting() const override;
  void spare_disk() override {
    if (prefix_slots_) prefix_slots_->forget_all();
  }

  // One that is not wanted any more is not ready at once; lines under way end as they would, and then the program is
  // ended.
  void set_wanted(bool wanted);
  // Whether its program runs, or is about to start.
  bool holds_device() const { return wanted_ || running_; }
  // A hopeless one is started again only after a long time: until then it has no use for the device.
  bool may_start() const { return !hopeless() || clock_.monotonic() >= next_start_; }

 private:
  // A request, for which its program is kept, and http_ too.
  struct UnderWay {
    explicit UnderWay(ManagedEngine& e) : engine(e) { ++engine.in_flight_; }
    ~UnderWay() {
      if (--engine.in_flight_ == 0) engine.demand_.notify();
    }
    ManagedEngine& engine;
  };
  void failed(std::string trouble, Millis pause);
  // Returns when nothing of its last life is left.
  Task<> last_life_over();
  std::shared_ptr<Child> start_program();
  // One life of the program; how it ended, in words.
  Task<std::string> live();
  Task<> end_when_unwanted(std::shared_ptr<Child> child);
  Task<> read_output(std::shared_ptr<Child> child);
  std::vector<std::string> argv(const std::string& port) const;

  asio::io_context& loop_;
  Clock& clock_;
  Options options_;
  EngineChanged changed_;
  std::vector<std::string> models_;
  std::optional<HttpEngine> http_;           // of the last start: each may have another port
  std::optional<PrefixSlots> prefix_slots_;  // of the same
  LogFile log_;
  std::deque<std::string> last_words_;
  bool wanted_ = false, running_ = false;
  bool ending_ = false;  // by our wish
  int in_flight_ = 0;
  int failed_starts_ = 0;  // and ends, since it was last ready
  Moment next_start_{};
  std::string trouble_;
  Event demand_;  // whether it is wanted, or its last line has ended
  TaskGroup probe_, end_, output_;
};

}  // namespace penstock
