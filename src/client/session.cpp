#include "client/session.h"

#include <fmt/format.h>

#include <boost/asio/signal_set.hpp>
#include <boost/system/system_error.hpp>
#include <csignal>
#include <cstdlib>

#include "base/exit_codes.h"

namespace penstock {
namespace {

std::map<std::string, std::string> environment() {
  std::map<std::string, std::string> values;
  for (const char* name : {"PENSTOCK_URL", "PENSTOCK_PROFILE", "PENSTOCK_API_KEY"}) {
    if (const char* value = std::getenv(name)) values[name] = value;
  }
  return values;
}

class Run {
 public:
  Run(asio::io_context& loop, Server& server, ClientCommand start, const ClientOptions& options)
      : tasks_(loop), session_{loop, tasks_, server}, start_(start), options_(options), signals_(loop) {
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
  }

  Task<> main() {
    signals_.async_wait([this](boost::system::error_code error, int) {
      if (error) return;
      signals_.clear();  // a second one ends us in any case
      tasks_.cancel();
    });
    tasks_.spawn("command", command());
    co_await tasks_.join();
    signals_.cancel();
    if (failure_) std::rethrow_exception(failure_);
  }

  int exit_code = kExitInterrupted;

 private:
  Task<> command() {
    try {
      exit_code = co_await start_(session_, options_);
    } catch (const std::exception& e) {
      if (!is_cancelled(e)) failure_ = std::current_exception();
    }
  }

  TaskGroup tasks_;
  Session session_;
  ClientCommand start_;
  const ClientOptions& options_;
  asio::signal_set signals_;
  std::exception_ptr failure_;
};

}  // namespace

int run_client(ClientCommand command, const ClientOptions& options) {
  std::signal(SIGPIPE, SIG_DFL);  // as `penstock results ID | head` expects
  const Target target = find_target(options.url, options.profile, environment(), profile_file());
  asio::io_context loop(1);
  SystemClock clock(loop);
  std::optional<Server> server;
  try {
    server.emplace(loop, clock, target);
  } catch (const boost::system::system_error& e) {
    throw UsageError(fmt::format("ca_file: cannot use {}: {}", target.ca_file, e.code().message()));
  }
  std::string told;
  server->on_trouble = [&](const std::string& trouble) {
    if (!trouble.empty() && trouble != told) fmt::print(stderr, "waiting: {}\n", trouble);
    told = trouble;
  };
  Run run(loop, *server, command, options);
  try {
    run_until_done(loop, run.main());
  } catch (const CommandFailure& e) {
    fmt::print(stderr, "penstock: {}\n", e.what());
    return e.exit_code();
  }
  return run.exit_code;
}

Task<std::string> batch_id(Server& server, std::string given) {
  if (given == kLastBatch) {
    const json::object list = co_await server.get("/v1/batches?limit=1");
    const auto batches = items(list);
    if (batches.empty()) throw UsageError("there is no batch yet; penstock submit FILE makes one");
    given = text(batches.front(), "id");
  }
  const bool fits = !given.empty() && given.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-") == std::string::npos;
  if (!fits) throw UsageError(fmt::format("'{}' is no id of a batch", given));
  co_return given;
}

void print_json(const json::object& object) {
  fmt::print("{}\n", json::serialize(object));
  std::fflush(stdout);
}

}  // namespace penstock
