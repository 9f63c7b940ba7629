#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <fstream>

#include "base/error.h"
#include "model/line_parser.h"
#include "net/http_client.h"

// The limit that Penstock is compared with: a client that does nothing but keep N requests in flight, with the same
// HTTP client, the bodies in memory beforehand and the answers kept nowhere durable.
namespace penstock {
namespace {

constexpr Millis kTimeout{600'000};

struct Load {
  std::vector<std::string> bodies;
  std::size_t next = 0, failed = 0;
  std::string first_failure;
  std::vector<std::string> answers;
};

std::vector<std::string> read_bodies(const std::string& path, std::size_t lines_max) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw UsageError(fmt::format("cannot read {}", path));
  LineParser parser;
  std::vector<std::string> bodies;
  for (std::string line; bodies.size() < lines_max && std::getline(in, line);) {
    const std::size_t size = line.size();
    line.resize(size + kLinePadding);
    bodies.emplace_back(parser.cut({line.data(), size}).body);
  }
  return bodies;
}

// One of N alike: each sends the next body as soon as its last one is answered.
Task<> send_bodies(HttpClient& client, Load& load) {
  while (load.next < load.bodies.size()) {
    const std::string& body = load.bodies[load.next++];
    auto response =
        co_await client.send({"POST", "/v1/chat/completions", "Content-Type: application/json\r\n", body}, kTimeout);
    if (response && response->status == 200) {
      load.answers.push_back(std::move(response->body));
    } else {
      if (++load.failed == 1) load.first_failure = response ? response->body : response.error().message;
    }
  }
}

Task<> send_all(TaskGroup& senders, HttpClient& client, Load& load, std::size_t in_flight) {
  for (std::size_t i = 0; i < in_flight; ++i) senders.spawn("sender", send_bodies(client, load));
  co_await senders.join();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::int64_t output_tokens(const std::vector<std::string>& answers) {
  AnswerParser parser;
  std::int64_t total = 0;
  for (const std::string& answer : answers) {
    if (const auto usage = parser.check(answer)) total += usage->output;
  }
  return total;
}

int run(int argc, char** argv) {
  CLI::App app("Sends the bodies of a batch file to an engine, with so many in flight at a time.", "closed_loop");
  std::string input, url;
  std::size_t in_flight = 8, lines_max = SIZE_MAX;
  app.add_option("input", input, "JSONL file of requests")->required();
  app.add_option("--engine", url, "http://HOST:PORT or unix:PATH")->required();
  app.add_option("--in-flight", in_flight, "requests at a time")->capture_default_str();
  app.add_option("--lines", lines_max, "only so many lines of the file");
  CLI11_PARSE(app, argc, argv);

  Load load;
  load.bodies = read_bodies(input, lines_max);
  load.answers.reserve(load.bodies.size());

  asio::io_context loop(1);
  SystemClock clock(loop);
  HttpClient client(loop, clock, Endpoint::parse(url).value(), {});
  TaskGroup senders(loop);
  const double cpu_before = cpu_seconds();
  const auto start = std::chrono::steady_clock::now();
  run_until_done(loop, send_all(senders, client, load, in_flight));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double cpu = cpu_seconds() - cpu_before;

  if (load.failed > 0) fmt::print(stderr, "closed_loop: {} failed, first: {}\n", load.failed, load.first_failure);
  const auto requests = static_cast<double>(load.bodies.size());
  fmt::print(R"({{"requests": {}, "failed": {}, "seconds": {:.3f}, "requests_per_second": {:.1f}, )"
             R"("cpu_us_per_request": {:.2f}, "output_tokens": {}}})"
             "\n",
             load.bodies.size(), load.failed, seconds, requests / seconds, cpu * 1e6 / requests,
             output_tokens(load.answers));
  return load.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return penstock::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "closed_loop: %s\n", e.what());
    return 2;
  }
}
