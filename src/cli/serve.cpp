#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>

#include "api/routes.h"
#include "base/log.h"
#include "cli/app.h"
#include "cli/commands.h"
#include "net/http_server.h"

namespace penstock {
namespace {

constexpr Millis kDrain{30'000};
constexpr Millis kLastAnswers{2'000};
constexpr std::size_t kConnectionsMax = 10'000;  // their buffers take memory too

// A connection may need a second file descriptor, for a file that it reads or writes, and the last third is for the
// database and the engines: whatever clients do, those find theirs.
std::size_t connections_max() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return std::min<std::size_t>(limit.rlim_cur / 3, kConnectionsMax);
}

Task<> serve_until_signal(App& app, HttpServer& server, TaskGroup& tasks, Clock& clock, asio::signal_set& signals) {
  co_await app.start();
  tasks.keep("http server", clock, [&server] { return server.run(); });
  log::info("listening on port {}, data in {}", server.port(), app.data_path());
  co_await signals.async_wait(asio::use_awaitable);
  log::info("stopping: lines under way have {} s; a second signal stops at once", kDrain.count() / 1000);
  signals.async_wait([](boost::system::error_code error, int signal) {
    if (!error) ::_exit(128 + signal);
  });
  co_await app.drain(kDrain);
  co_await server.stop(kLastAnswers);
  co_await app.stop();
  tasks.cancel();
  signals.cancel();
}

}  // namespace

int serve(const Config& config) {
  asio::io_context loop(1);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  App app(loop, config);
  Clock& clock = app.services().clock;
  HttpServer server(
      loop, clock, {.host = config.listen_host, .port = config.listen_port, .connections_max = connections_max()},
      [&](Request& request) { return dispatch(app.services(), request); }, refuse);
  server.listen();
  TaskGroup tasks(loop);
  run_until_done(loop, serve_until_signal(app, server, tasks, clock, signals));
  return kExitOk;
}

}  // namespace penstock
