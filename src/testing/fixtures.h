#pragma once
#include <fmt/core.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <boost/asio/executor_work_guard.hpp>

#include "base/async.h"

namespace penstock {

// A folder that goes with its object.
class TempDir {
 public:
  TempDir() : path_((std::filesystem::temp_directory_path() / "penstock-test-XXXXXX").string()) {
    if (!::mkdtemp(path_.data())) throw std::runtime_error("cannot make a temporary folder");
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file in it and returns its path.
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(*this / name, std::ios::binary) << text;
    return *this / name;
  }

 private:
  std::string path_;
};

// Runs the loop until `condition` holds. False when it does not within half a minute: other threads take part, so there
// is no telling when nothing will happen any more.
template <class Condition>
[[nodiscard]] bool run_until(asio::io_context& loop, Condition condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto more = asio::make_work_guard(loop);
  loop.restart();
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    loop.run_one_for(std::chrono::milliseconds(10));
  }
  return true;
}

// Runs what can run without time passing and without another thread.
inline void poll(asio::io_context& loop) {
  loop.restart();
  while (loop.poll() > 0) {
  }
}

// The body of request `i`, and an input file of requests `from` to before `end`, with custom_ids "r0", "r1", …
inline std::string request_body(int i, const std::string& model = "m") {
  return fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":"question {}"}}]}})", model, i);
}
inline std::string input_line(int i, const std::string& model = "m") {
  return fmt::format("{{\"custom_id\":\"r{}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n", i,
                     request_body(i, model));
}
inline std::string input_lines(int from, int end, const std::string& model = "m") {
  std::string lines;
  for (int i = from; i < end; ++i) lines += input_line(i, model);
  return lines;
}

// Without their newlines.
inline std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace penstock
