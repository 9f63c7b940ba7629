#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <system_error>

#include "base/child.h"
#include "base/log_file.h"
#include "delivery/sink.h"

namespace penstock {
namespace {

constexpr std::size_t kPieceSize = 256 << 10;

// A run of the program, which bring() shares with the tasks that feed it and take what it prints.
struct Run {
  std::unique_ptr<Child> child;
  std::unique_ptr<asio::posix::stream_descriptor> input;
  std::string failure;  // ours, for which it was ended
};
using RunPtr = std::shared_ptr<Run>;

class CommandSink final : public Sink {
 public:
  CommandSink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool, CommandSinkOptions options,
              std::string log)
      : loop_(loop), clock_(clock), pool_(pool), options_(std::move(options)), log_(std::move(log)), tasks_(loop) {}

  Task<Outcome> bring(const SinkAttempt& attempt) override {
    const auto run = start(attempt.delivery);
    struct End {
      Run& run;
      ~End() { run.child->kill(SIGKILL); }
    } const end{*run};
    tasks_.spawn("what a sink prints", keep_log(run));
    tasks_.spawn("the lines for a sink", feed(run, attempt.results));
    const auto alarm = clock_.alarm_at(clock_.monotonic() + options_.timeout, [run, this] {
      fail(*run, fmt::format("the command did not end within {} s", options_.timeout.count()));
    });
    const std::string how = co_await run->child->wait();
    if (!run->failure.empty()) co_return Outcome{.kind = Outcome::Kind::again, .why = run->failure};
    if (how != "exit code 0") {
      co_return Outcome{.kind = Outcome::Kind::again, .why = fmt::format("the command ended with {}", how)};
    }
    co_return Outcome{};
  }

  Task<> stop() override {
    tasks_.cancel();
    co_await tasks_.join();
  }

 private:
  RunPtr start(const Delivery& delivery) {
    int input[2];
    if (::pipe2(input, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    const auto run = std::make_shared<Run>();
    run->input = std::make_unique<asio::posix::stream_descriptor>(loop_, input[1]);
    struct Close {
      int fd;
      ~Close() { ::close(fd); }
    } const close{input[0]};
    run->child =
        std::make_unique<Child>(loop_, options_.command,
                                std::map<std::string, std::string>{
                                    {"PENSTOCK_BATCH_ID", delivery.batch_id.value},
                                    {"PENSTOCK_BATCH_STATUS", delivery.event.substr(delivery.event.find('.') + 1)},
                                    {"PENSTOCK_DELIVERY_ID", delivery.id.value},
                                },
                                input[0]);
    return run;
  }

  static void fail(Run& run, std::string why) {
    run.failure = std::move(why);
    run.child->kill(SIGKILL);
  }

  Task<> keep_log(RunPtr run) {
    while (const auto line = co_await run->child->read_line()) log_.write(*line);
  }

  // A program that closes its input early wants no more. One that is not given all of it must not take that for all.
  Task<> feed(RunPtr run, std::shared_ptr<const Results> results) {
    boost::system::error_code error;
    try {
      for (std::uint64_t at = 0; !error && at < results->size();) {
        const std::string piece = co_await blocking(pool_, [&] { return results->bytes(at, kPieceSize); });
        co_await asio::async_write(*run->input, asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
        at += piece.size();
      }
    } catch (const std::exception&) {
      fail(*run, "the results could not be read");
    }
    if (error == asio::error::operation_aborted) fail(*run, "the server was stopped");
    run->input.reset();
  }

  asio::io_context& loop_;
  Clock& clock_;
  asio::thread_pool& pool_;
  const CommandSinkOptions options_;
  LogFile log_;
  TaskGroup tasks_;
};

}  // namespace

std::unique_ptr<Sink> make_command_sink(asio::io_context& loop, Clock& clock, asio::thread_pool& pool,
                                        CommandSinkOptions options, std::string log) {
  return std::make_unique<CommandSink>(loop, clock, pool, std::move(options), std::move(log));
}

}  // namespace penstock
