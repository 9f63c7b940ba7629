#pragma once
#include <sys/types.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <map>
#include <string>
#include <vector>

#include "base/async.h"

namespace penstock {

// A child process in a process group of its own that cannot outlive us: the kernel kills it when we die, whatever kills
// us. Spawn from the loop thread only, because the kernel watches the spawning thread. Destroying a running Child kills
// its whole group.
class Child {
 public:
  // `argv[0]` is a path or a name looked up in our PATH. Its environment is ours and `env`, which wins. Standard output
  // and error both go to read_line(). It reads from the descriptor `input`, which stays the caller's, or nothing.
  // Throws std::system_error when it cannot be started, with the name of the program.
  Child(asio::io_context& loop, const std::vector<std::string>& argv, std::map<std::string, std::string> env = {},
        int input = -1);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }

  // What the child prints, one line a call without its newline; nothing once it has closed its output.
  Task<std::optional<std::string>> read_line();

  // Waits for the end and tells how it ended, in words: "exit code 1", "signal 9 (Killed)".
  Task<std::string> wait();

  // To the whole group; harmless once it has ended.
  void kill(int signal);

 private:
  pid_t pid_ = -1;
  asio::posix::stream_descriptor pidfd_;
  asio::posix::stream_descriptor output_;
  std::string buffer_;
  bool reaped_ = false;
};

}  // namespace penstock
