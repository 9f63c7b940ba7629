#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>

#include "api/monitor.h"
#include "api/routes.h"
#include "base/log.h"
#include "cli/app.h"
#include "cli/commands.h"
#include "net/http_server.h"
#include "net/loopback.h"
#include "store/access.h"

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

// What the log is to say of who may do what, if anything. Throws UsageError where that would be everybody on the
// network.
Task<std::string> check_exposure(App& app, const Config& config) {
  const bool has_keys = co_await app.services().db.read([](Store& store) { return Access(store).has_keys(); });
  const bool is_public = !is_loopback(config.listen_host);
  if (!has_keys && is_public && !config.insecure) {
    throw UsageError(fmt::format(
        "listen: {} can be called from other machines, and no API key was ever made: make one with penstock keys "
        "create, listen on 127.0.0.1, or let everybody do everything with --insecure",
        config.listen_host));
  }
  if (!has_keys) {
    co_return fmt::format(
        "there are no API keys: whoever can call {} may do everything; penstock keys create makes the first",
        config.listen_host);
  }
  if (is_public && config.tls_certificate.empty()) {
    co_return "keys, prompts and answers cross the network in plain text, unless a proxy in front speaks TLS";
  }
  co_return std::string();
}

// What is asked of the listener for monitoring alone.
Task<Response> answer_scrape(App& app, Request& request) {
  Response response;
  if (request.path != "/metrics") {
    response.status = 404;
  } else if (request.method != "GET" && request.method != "HEAD") {
    response.status = 405;
    response.headers.add("Allow", "GET");
  } else {
    response = co_await metrics_response(*app.services().metrics, request);
  }
  co_return response;
}

// Null when none is wanted.
std::unique_ptr<HttpServer> metrics_server(App& app, const Config& config) {
  if (config.metrics_host.empty()) return nullptr;
  return std::make_unique<HttpServer>(
      app.services().loop, app.services().clock,
      HttpServer::Options{.host = config.metrics_host, .port = config.metrics_port, .connections_max = 16},
      [&app](Request& request) { return answer_scrape(app, request); });
}

// `server` and `scraped` are null where there is none.
Task<> live_until_signal(App& app, HttpServer* server, HttpServer* scraped, TaskGroup& tasks, asio::signal_set& signals,
                         const Config& config) {
  std::string warning;
  if (server) {
    warning = co_await check_exposure(app, config);
    server->listen();
  }
  if (scraped) scraped->listen();
  co_await app.start();
  if (scraped) {
    tasks.keep("metrics server", app.services().clock, [scraped] { return scraped->run(); });
    log::info("telling metrics on port {}", scraped->port());
  }
  if (server) {
    if (!warning.empty()) log::warn("{}", warning);
    tasks.keep("figures over time", app.services().clock, [&app] { return app.services().monitor->run(); });
    tasks.keep("http server", app.services().clock, [server] { return server->run(); });
    log::info("listening on port {}, data in {}", server->port(), app.data_path());
  } else {
    log::info("working, data in {}", app.data_path());
  }
  co_await signals.async_wait(asio::use_awaitable);
  log::info("stopping: lines under way have {} s; a second signal stops at once", kDrain.count() / 1000);
  signals.async_wait([](boost::system::error_code error, int signal) {
    if (!error) ::_exit(128 + signal);
  });
  co_await app.drain(kDrain);
  if (server) co_await server->stop(kLastAnswers);
  if (scraped) co_await scraped->stop(Millis{0});
  co_await app.stop();
  tasks.cancel();
  signals.cancel();
}

}  // namespace

int serve(const Config& config, std::vector<ShownSetting> settings) {
  asio::io_context loop(1);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  App app(loop, config);
  app.services().settings = std::move(settings);
  HttpServer server(
      loop, app.services().clock,
      {.host = config.listen_host,
       .port = config.listen_port,
       .connections_max = connections_max(),
       .tls_certificate = config.tls_certificate,
       .tls_key = config.tls_key},
      [&](Request& request) { return dispatch(app.services(), request); }, refuse);
  const auto scraped = metrics_server(app, config);
  TaskGroup tasks(loop);
  run_until_done(loop, live_until_signal(app, &server, scraped.get(), tasks, signals, config));
  return kExitOk;
}

int work(const Config& config) {
  if (config.database.empty()) {
    throw UsageError(
        "database: a worker needs the database of its servers, --database postgres://…; "
        "a server that keeps its queue in SQLite has its worker inside, and no other can join it");
  }
  asio::io_context loop(1);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  App app(loop, config);
  const auto scraped = metrics_server(app, config);
  TaskGroup tasks(loop);
  run_until_done(loop, live_until_signal(app, nullptr, scraped.get(), tasks, signals, config));
  return kExitOk;
}

}  // namespace penstock
