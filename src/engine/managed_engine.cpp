#include "engine/managed_engine.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kRestartPauseMin{500}, kRestartPauseMax{30'000};
constexpr Millis kStableAfter{60'000};  // an engine that lived this long restarts without a long pause
constexpr std::size_t kLastWords = 8;

HttpEngine::Options http_options(const ManagedEngine::Options& options) {
  return {.endpoint = Endpoint::parse("unix:" + options.socket).value(),
          .name = options.model,
          .key = {},
          .slots = options.slots,
          .only_model = options.model,
          .line_timeout = options.line_timeout};
}

}  // namespace

ManagedEngine::ManagedEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed)
    : loop_(loop),
      clock_(clock),
      options_(std::move(options)),
      models_{options_.model},
      http_(loop, clock, http_options(options_),
            [this, changed = std::move(changed)] {
              if (http_.ready()) failed_starts_ = 0;
              changed();
            }),
      probe_(loop),
      output_(loop) {}

std::vector<std::string> ManagedEngine::argv() const {
  // Separate key-value streams a slot (-no-kvu) stay fast with many slots; no cache of prompts in host memory (-cram 0)
  // keeps memory flat.
  std::vector<std::string> argv = {options_.program,
                                   "--model",
                                   options_.gguf,
                                   "--alias",
                                   options_.model,
                                   "--host",
                                   options_.socket,
                                   "--parallel",
                                   std::to_string(options_.slots),
                                   "--ctx-size",
                                   std::to_string(options_.slots * options_.context),
                                   "--no-kv-unified",
                                   "--cache-ram",
                                   "0",
                                   "--no-ui",
                                   "--metrics"};
  argv.insert(argv.end(), options_.extra_args.begin(), options_.extra_args.end());
  return argv;
}

Task<> ManagedEngine::read_output(std::shared_ptr<Child> child) {
  while (auto line = co_await child->read_line()) {
    log::debug("{}: {}", options_.model, *line);
    if (line->empty()) continue;
    last_words_.push_back(std::move(*line));
    if (last_words_.size() > kLastWords) last_words_.pop_front();
  }
}

Task<> ManagedEngine::run() {
  Millis pause = kRestartPauseMin;
  while (true) {
    const Moment started = clock_.monotonic();
    ::unlink(options_.socket.c_str());  // a socket left behind would keep llama-server from binding
    last_words_.clear();
    // Shared with the task that reads its output, which ends when the child does.
    std::shared_ptr<Child> child;
    try {
      child = std::make_shared<Child>(loop_, argv());
    } catch (const std::exception& e) {
      ++failed_starts_;
      trouble_ = e.what();
      throw;  // who keeps us running calls us again, after a pause
    }
    const auto end_all = [this](Child* c) {
      c->kill(SIGKILL);
      probe_.cancel();
    };
    std::unique_ptr<Child, decltype(end_all)> running(child.get(), end_all);
    log::info("engine {}: started {} as process {}", options_.model, options_.program, child->pid());
    output_.spawn("engine output", read_output(child));
    probe_.spawn("engine probe", http_.run());

    const std::string how = co_await child->wait();
    running.reset();
    co_await probe_.join();
    co_await output_.join();
    http_.mark_down();
    ++failed_starts_;
    if (clock_.monotonic() - started >= kStableAfter) pause = kRestartPauseMin;
    trouble_ = fmt::format("it ended with {}\nIts last words:\n  {}", how, fmt::join(last_words_, "\n  "));
    log::error("engine {}: {}\nStarting it again in {} ms.", options_.model, trouble_, pause.count());
    co_await sleep_until(clock_, clock_.monotonic() + pause);
    pause = std::min(2 * pause, kRestartPauseMax);
  }
}

}  // namespace penstock
