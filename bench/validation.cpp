#include <fcntl.h>
#include <fmt/format.h>
#include <simdjson.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>
#include <map>
#include <random>

#include "base/error.h"
#include "batch/validate.h"

// What the strict check of an input file costs, beside a bare parse of the same lines.
namespace penstock {
namespace {

constexpr const char* kEndpoint = "/v1/chat/completions";

// A file that goes with the process.
class Scratch {
 public:
  explicit Scratch(const std::string& folder) : fd_(::open(folder.c_str(), O_TMPFILE | O_RDWR, 0600)) {
    if (fd_ < 0) throw UsageError(fmt::format("cannot make a file in {}: {}", folder, std::strerror(errno)));
  }
  ~Scratch() { ::close(fd_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0) throw UsageError(fmt::format("cannot write the input: {}", std::strerror(errno)));
      bytes.remove_prefix(static_cast<std::size_t>(n));
      size_ += static_cast<std::uint64_t>(n);
    }
  }
  std::uint64_t size() const { return size_; }
  // Up to `size` bytes from `offset`; less at the end.
  std::size_t read(std::uint64_t offset, char* to, std::size_t size) const {
    std::size_t got = 0;
    for (ssize_t n = 1; n > 0 && got < size; got += static_cast<std::size_t>(std::max<ssize_t>(n, 0))) {
      n = ::pread(fd_, to + got, size - got, static_cast<off_t>(offset + got));
    }
    return got;
  }

 private:
  int fd_;
  std::uint64_t size_ = 0;
};

// About `size` bytes of seeded words with some escapes and some UTF-8.
std::string words(std::minstd_rand random, std::size_t size) {
  constexpr std::string_view kWords[] = {"pressure ", "valve ",        "of the ", "turbine, ", "reservoir ", "and ",
                                         "flow\\n",   "\\\"head\\\" ", "m³/s ",   "7.5 ",      "für ",       "steady "};
  std::string text;
  while (text.size() < size) text += kWords[random() % std::size(kWords)];
  return text;
}

// What the requests of the input share, some with others, these mixed: half of each system prompt and user message is
// the text of its group. 0: nothing.
struct Groups {
  std::int64_t system = 0, user = 0;
};
const std::map<std::string, Groups> kShapes = {
    {"none", {}}, {"system", {200, 0}}, {"document", {0, 50'000}}, {"levels", {10, 1'000}}};

// `lines` requests of about `size` bytes, and two more: one that is no JSON, and one with the custom_id of the first,
// so a check that stops early or forgets is noticed. Returns the bytes before those.
std::uint64_t write_input(Scratch& file, std::int64_t lines, std::size_t size, const Groups& groups) {
  std::string line;
  std::uint64_t good_size = 0;
  for (std::int64_t i = 0; i < lines + 2; ++i) {
    if (i == lines) good_size = file.size();
    const auto part = [&](std::int64_t count, std::size_t part_size) {
      return count == 0 ? "" : words(std::minstd_rand(static_cast<unsigned>(1 + i % count)), part_size);
    };
    line = fmt::format(
        R"({{"custom_id":"request-{:07}","method":"POST","url":"{}","body":{{"model":"bench","temperature":0.7,)"
        R"("max_tokens":256,"messages":[{{"role":"system","content":"You are a careful engineer. {}"}},)"
        R"({{"role":"user","content":"{})",
        i == lines + 1 ? 0 : i, kEndpoint, part(groups.system, size / 4), part(groups.user, size / 4));
    if (line.size() + 5 < size)
      line += words(std::minstd_rand(static_cast<unsigned>(i + 1'000'000)), size - line.size() - 5);
    line += i == lines ? "\"}]}\n" : "\"}]}}\n";
    file.append(line);
  }
  return good_size;
}

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

// CPU seconds in the validator alone, without the reading of the file's first `size` bytes.
double time_validator(const Scratch& file, std::uint64_t size, std::size_t piece_size, std::int64_t errors) {
  Validator validator({.endpoint = kEndpoint, .lines_max = 0, .models = {}});
  const auto piece = std::make_unique<char[]>(piece_size);
  double seconds = 0;
  for (std::uint64_t at = 0; at < size;) {
    const std::size_t n = file.read(at, piece.get(), std::min<std::uint64_t>(piece_size, size - at));
    at += n;
    const double start = cpu_seconds();
    validator.feed({piece.get(), n});
    seconds += cpu_seconds() - start;
  }
  const double start = cpu_seconds();
  const Validated checked = validator.finish();
  seconds += cpu_seconds() - start;
  if (checked.error_total != errors || (errors > 0 && checked.errors[1].code != "duplicate_custom_id")) {
    throw std::runtime_error("the validator did not find what is wrong with the input, or found more");
  }
  return seconds;
}

// CPU seconds of simdjson's DOM parser over the same lines, cut beforehand; what it makes of them is dropped.
double time_dom(const Scratch& file, std::size_t line_size_max) {
  const std::size_t capacity = line_size_max + (1 << 20);
  const auto buffer = std::make_unique<char[]>(capacity + simdjson::SIMDJSON_PADDING);
  simdjson::dom::parser parser;
  double seconds = 0;
  std::size_t kept = 0;
  for (std::uint64_t at = 0;;) {
    const std::size_t n = file.read(at, buffer.get() + kept, capacity - kept);
    if (n == 0) break;
    at += n;
    const char *line = buffer.get(), *const end = line + kept + n;
    const double start = cpu_seconds();
    while (const void* newline = std::memchr(line, '\n', static_cast<std::size_t>(end - line))) {
      const auto* line_end = static_cast<const char*>(newline);
      [[maybe_unused]] const auto error = parser.parse(line, static_cast<std::size_t>(line_end - line), false).error();
      line = line_end + 1;
    }
    seconds += cpu_seconds() - start;
    kept = static_cast<std::size_t>(end - line);
    std::memmove(buffer.get(), line, kept);
  }
  return seconds;
}

// Highest memory of this process so far.
double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return static_cast<double>(std::stoll(line.substr(6))) * 1024 / 1e6;
  }
  return 0;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int run(int argc, char** argv) {
  CLI::App app("Times the check of an input file that it makes.", "validation");
  std::int64_t lines = 1'000'000;
  std::size_t line_size = 580;
  int runs = 3;
  std::string scratch = "/tmp", shared = "none";
  app.add_option("--lines", lines)->capture_default_str()->check(CLI::Range(3, 100'000'000));
  app.add_option("--line-size", line_size, "in bytes")->capture_default_str()->check(CLI::Range(300, 64 << 20));
  app.add_option("--shared", shared, "what prompts begin with")
      ->capture_default_str()
      ->check(CLI::IsMember(kShapes, CLI::ignore_case));
  app.add_option("--runs", runs, "how often; medians are printed")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_option("--scratch", scratch, "the folder for the file")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  Scratch file(scratch);
  const std::uint64_t size = write_input(file, lines, line_size, kShapes.at(shared));
  std::vector<double> large, small, dom;
  double peak = 0;
  for (int i = 0; i < runs; ++i) {
    large.push_back(time_validator(file, size, 1 << 20, 0));
    if (i == 0) peak = peak_rss_mb();  // of one check, as a server that has just started has it
    small.push_back(time_validator(file, size, 64 << 10, 0));
    dom.push_back(time_dom(file, line_size));
  }
  time_validator(file, file.size(), 1 << 20, 2);
  const double gigabytes = static_cast<double>(size) / 1e9;
  fmt::print(
      R"({{"shared":"{}","lines":{},"bytes":{},"gb_per_second":{:.2f},"gb_per_second_64k":{:.2f},"dom_gb_per_second":{:.2f},)"
      R"("ratio":{:.2f},"us_per_line":{:.2f},"peak_rss_mb":{:.1f}}})"
      "\n",
      shared, lines, size, gigabytes / median(large), gigabytes / median(small), gigabytes / median(dom),
      median(dom) / median(large), median(large) * 1e6 / static_cast<double>(lines), peak);
  return 0;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  try {
    return penstock::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "validation: %s\n", e.what());
    return 1;
  }
}
