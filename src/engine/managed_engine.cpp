#include "engine/managed_engine.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>

#include <filesystem>

#include "base/log.h"

namespace penstock {
namespace {

constexpr Millis kRestartPauseMin{500}, kRestartPauseMax{30'000};
constexpr Millis kProbePauseMax{100};  // it is near, and whole batches may wait for it
constexpr Millis kHopelessPause{300'000};
constexpr int kHopelessStarts = 3;
constexpr Millis kStableAfter{60'000};  // an engine that lived this long restarts without a long pause
constexpr Millis kEndGrace{10'000};     // from the signal that asks it to end to the one that ends it
constexpr std::size_t kLastWords = 8, kWordsMax = 400;
constexpr const char* kLoading = "it is loading its model";

std::string free_port(asio::io_context& loop) {
  const asio::ip::tcp::acceptor taken(loop, {asio::ip::address_v4::loopback(), 0});
  return std::to_string(taken.local_endpoint().port());
}

// A line of a program's output as it may stand in JSON and on a terminal.
std::string plain(std::string_view line) {
  std::string text(line.substr(0, kWordsMax));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char byte) { return byte < 0x20 || byte > 0x7E; }, '?');
  return text;
}

}  // namespace

ManagedEngine::ManagedEngine(asio::io_context& loop, Clock& clock, Options options, EngineChanged changed)
    : loop_(loop),
      clock_(clock),
      options_(std::move(options)),
      changed_(std::move(changed)),
      models_{options_.model},
      log_(options_.log),
      demand_(loop),
      probe_(loop),
      end_(loop),
      output_(loop) {}

bool ManagedEngine::hopeless() const {
  return failed_starts_ >= kHopelessStarts;
}

bool ManagedEngine::starting() const {
  return !ready() && trouble_ == kLoading;
}

void ManagedEngine::failed(std::string trouble, Millis pause) {
  trouble_ = std::move(trouble);
  ++failed_starts_;
  next_start_ = clock_.monotonic() + (hopeless() ? kHopelessPause : pause);
  if (hopeless()) changed_();
}

void ManagedEngine::set_wanted(bool wanted) {
  if (std::exchange(wanted_, wanted) == wanted) return;
  if (failed_starts_ == 0) trouble_ = wanted ? kLoading : "";
  demand_.notify();
  changed_();
}

Task<Answer> ManagedEngine::send(std::string_view path, std::string_view body, std::size_t shared_ahead,
                                 std::string_view traceparent) {
  const UnderWay under_way(*this);
  Answer answer;
  answer.kind = Answer::Kind::unreachable;
  if (prefix_slots_) {  // llama-server has no part in traces
    answer = co_await prefix_slots_->send(path, body, shared_ahead);
  } else if (http_) {
    answer = co_await http_->send(path, body, 0, traceparent);
  }
  co_return answer;
}

Task<std::optional<Load>> ManagedEngine::load() {
  const UnderWay under_way(*this);
  std::optional<Load> load;
  if (http_) load = co_await http_->load();
  co_return load;
}

std::vector<std::string> ManagedEngine::argv(const std::string& port) const {
  return expand(options_.command, {{"model", options_.path},
                                   {"name", options_.model},
                                   {"socket", options_.socket},
                                   {"port", port},
                                   {"slot_folder", options_.slot_folder},
                                   {"context", std::to_string(options_.context)},
                                   {"slots", std::to_string(options_.slots)},
                                   {"total_context", std::to_string(std::int64_t{options_.slots} * options_.context)}});
}

Task<> ManagedEngine::read_output(std::shared_ptr<Child> child) {
  while (auto line = co_await child->read_line()) {
    log_.write(*line);
    if (line->empty()) continue;
    last_words_.push_back(plain(*line));
    if (last_words_.size() > kLastWords) last_words_.pop_front();
  }
}

// llama-server does not end while a client is connected, so our connections are closed first.
Task<> ManagedEngine::end_when_unwanted(std::shared_ptr<Child> child) {
  while (wanted_ || in_flight_ > 0) co_await demand_.wait();
  ending_ = true;
  probe_.cancel();
  co_await probe_.join();
  http_->mark_down();
  child->kill(SIGTERM);
  co_await sleep_until(clock_, clock_.monotonic() + kEndGrace);
  child->kill(SIGKILL);
}

Task<> ManagedEngine::last_life_over() {
  // Requests that are left of it are about to find out.
  while (in_flight_ > 0) co_await demand_.wait();
  co_await end_.join();
  co_await probe_.join();
  co_await output_.join();
}

std::shared_ptr<Child> ManagedEngine::start_program() {
  const bool on_socket = mentions(options_.command, "{socket}");
  const std::string port = on_socket ? "" : free_port(loop_);
  http_.emplace(
      loop_, clock_,
      HttpEngine::Options{
          .endpoint = Endpoint::parse(on_socket ? "unix:" + options_.socket : "http://127.0.0.1:" + port).value(),
          .name = options_.model,
          .key = {},
          .slots = options_.slots,
          .only_model = options_.model,
          .line_timeout = options_.line_timeout,
          .probe_pause_max = kProbePauseMax},
      [this] {
        if (http_->ready()) failed_starts_ = 0;
        changed_();
      });
  prefix_slots_.reset();
  if (mentions(options_.command, "{slot_folder}")) {
    std::filesystem::remove_all(options_.slot_folder);  // what a crash left
    std::filesystem::create_directories(options_.slot_folder);
    prefix_slots_.emplace(loop_, clock_, PrefixSlots::Options{.slots = options_.slots, .folder = options_.slot_folder},
                          [this](std::string_view path, std::string_view body) { return http_->send(path, body); });
  }
  ::unlink(options_.socket.c_str());  // a socket left behind would keep llama-server from binding
  auto child = std::make_shared<Child>(loop_, argv(port), options_.env);
  log::info("engine {}: started {} as process {}", options_.model, options_.command.front(), child->pid());
  return child;
}

Task<std::string> ManagedEngine::live() {
  last_words_.clear();
  ending_ = false;
  // Shared with the tasks that read its output and end it, which end when the child does.
  std::shared_ptr<Child> child;
  try {
    child = start_program();
  } catch (const std::exception& e) {
    failed(e.what(), kRestartPauseMin);
    throw;  // who keeps us running calls us again, after a pause
  }
  running_ = true;
  const auto end_all = [this](Child* c) {
    c->kill(SIGKILL);
    end_.cancel();
    probe_.cancel();
    running_ = false;
  };
  std::unique_ptr<Child, decltype(end_all)> living(child.get(), end_all);
  log_.write(fmt::format("penstock: started as process {}", child->pid()));
  output_.spawn("engine output", read_output(child));
  probe_.spawn("engine probe", http_->run());
  end_.spawn("engine end", end_when_unwanted(child));

  std::string how = co_await child->wait();
  living.reset();
  co_await end_.join();
  co_await probe_.join();
  co_await output_.join();
  log_.write("penstock: it ended with " + how);
  http_->mark_down();
  if (in_flight_ == 0) prefix_slots_.reset();  // and its files
  co_return how;
}

Task<> ManagedEngine::run() {
  Millis pause = kRestartPauseMin;
  while (true) {
    while (!wanted_) co_await demand_.wait();
    co_await sleep_until(clock_, next_start_);
    co_await last_life_over();
    if (!wanted_) continue;
    const Moment started = clock_.monotonic();
    const std::string how = co_await live();
    if (!wanted_) changed_();  // its device is free
    if (ending_) {
      log::info("engine {}: ended, for another model", options_.model);
      continue;
    }
    if (clock_.monotonic() - started >= kStableAfter) pause = kRestartPauseMin;
    failed(fmt::format("it ended with {}\nIts last words:\n  {}", how, fmt::join(last_words_, "\n  ")), pause);
    log::error("engine {}: {}\nStarting it again in {} ms.", options_.model, trouble_,
               (next_start_ - clock_.monotonic()).count());
    pause = std::min(2 * pause, kRestartPauseMax);
  }
}

}  // namespace penstock
