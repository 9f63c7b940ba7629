#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/exit_codes.h"
#include "client/commands.h"
#include "client/events.h"
#include "client/system_view.h"

namespace penstock {
namespace {

constexpr Millis kSilenceMax{45'000};  // there is a sign of life each 15 s
constexpr Millis kPause{1'000};
constexpr std::size_t kNoEnd = 1'000'000;

// Whether the caller may see what needs the scope `monitor`.
Task<bool> may_see_all(Server& server) {
  const json::object caller = co_await server.get("/v1/whoami");
  for (const json::value& scope : array(caller, "scopes")) {
    if (scope == "monitor" || scope == "admin") co_return true;
  }
  co_return false;
}

void take_event(SystemView& view, std::string_view event, std::string_view data) {
  json::object object = json::parse({data.data(), data.size()}).as_object();
  if (event == "queue")
    view.queue = std::move(object);
  else if (event == "engines")
    view.engines = std::move(object);
  else if (event == "workers")
    view.workers = std::move(object);
  else if (event == "stats")
    view.point = std::move(object);
}

Task<> take_snapshot(Server& server, SystemView& view) {
  view.queue = co_await server.get("/v1/queue");
  if (!view.all) co_return;
  view.engines = co_await server.get("/v1/engines");
  view.workers = co_await server.get("/v1/workers");
  const json::object stats = co_await server.get("/v1/stats");
  const json::array& points = array(stats, "points");
  if (!points.empty() && points.back().is_object()) view.point = points.back().get_object();
  view.step = whole(stats, "step");
}

Task<> read_keys(Session& session) {
  // A descriptor of our own: what is set to non-blocking here is not the shell's.
  const char* name = ::ttyname(STDIN_FILENO);
  const int fd = name ? ::open(name, O_RDONLY | O_NOCTTY | O_CLOEXEC) : -1;
  if (fd < 0) co_return;
  asio::posix::stream_descriptor keys(session.loop, fd);
  for (char key = 0; key != 'q' && key != 'Q';) {
    co_await keys.async_read_some(asio::buffer(&key, 1), asio::use_awaitable);
  }
  session.tasks.cancel();
}

// Draws it anew when the terminal has another size.
Task<> watch_size(Session& session, const SystemView& view, const FullScreen& screen) {
  asio::signal_set resized(session.loop, SIGWINCH);
  while (true) {
    co_await resized.async_wait(asio::use_awaitable);
    screen.draw(system_lines(view, screen.size().rows));
  }
}

}  // namespace

Task<int> top(Session& session, const ClientOptions& options) {
  Server& server = session.server;
  SystemView view{.url = server.url(), .trouble = {}, .queue = {}, .engines = {}, .workers = {}, .point = {}};
  view.all = co_await may_see_all(server);
  co_await take_snapshot(server, view);
  if (options.json) {
    print_json({{"queue", view.queue}, {"engines", view.engines}, {"workers", view.workers}, {"point", view.point}});
    co_return kExitOk;
  }
  if (!::isatty(STDOUT_FILENO)) {
    for (const auto& line : system_lines(view, kNoEnd)) fmt::print("{}\n", line.text);
    co_return kExitOk;
  }
  FullScreen screen;
  const auto draw = [&] { screen.draw(system_lines(view, screen.size().rows)); };
  draw();
  server.on_trouble = [&](const std::string& trouble) {
    view.trouble = trouble;
    draw();
  };
  TaskGroup aside(session.loop);
  aside.spawn("keys", read_keys(session));
  aside.spawn("size", watch_size(session, view, screen));
  EventParser parser([&](std::string_view event, std::string_view data) { take_event(view, event, data); });
  const std::function<Server::Asked()> ask = [&] {
    parser.reset();
    return Server::Asked{.path = fmt::format("/v1/events?topics=queue{}", view.all ? ",engines,workers,stats" : ""),
                         .headers = {}};
  };
  const std::function<void(std::string_view)> take = [&](std::string_view piece) {
    parser.add(piece);
    draw();
  };
  std::exception_ptr failure;
  try {
    while (true) {
      co_await server.follow(ask, take, kSilenceMax);
      co_await sleep_until(server.clock(), server.clock().monotonic() + kPause);
    }
  } catch (const std::exception& e) {
    if (!is_cancelled(e)) failure = std::current_exception();  // q and Ctrl-C are how a view ends
  }
  co_await asio::this_coro::reset_cancellation_state();  // else we could wait for nothing any more
  aside.cancel();
  co_await aside.join();
  if (failure) std::rethrow_exception(failure);
  co_return kExitOk;
}

}  // namespace penstock
