#include "base/child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/redirect_error.hpp>
#include <cstring>
#include <system_error>

namespace penstock {
namespace {

constexpr std::size_t kLineSizeMax = 4096;  // a longer line is cut into several

[[noreturn]] void exec_child(char* const* argv, char* const* env, int input, int output, int failure, pid_t parent) {
  // Only async-signal-safe calls between fork and exec.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent died before PDEATHSIG was set
  if (input < 0) input = ::open("/dev/null", O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // Whatever was opened without O_CLOEXEC: a listening socket in a child's hands would outlive us.
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::execvpe(argv[0], argv, env);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(failure, &error, sizeof error);
  ::_exit(127);
}

std::system_error failed(const std::string& what) {
  return {errno, std::generic_category(), what};
}

// For exec, with its final null pointer.
std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const auto& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> with_ours(std::map<std::string, std::string> env) {
  for (char** ours = environ; *ours; ++ours) {
    const std::string_view text = *ours;
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) env.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  std::vector<std::string> all;
  for (const auto& [name, value] : env) all.push_back(fmt::format("{}={}", name, value));
  return all;
}

}  // namespace

Child::Child(asio::io_context& loop, const std::vector<std::string>& argv, std::map<std::string, std::string> env,
             int input)
    : pidfd_(loop), output_(loop) {
  const std::vector<std::string> environment = with_ours(std::move(env));
  const std::vector<char*> args = pointers(argv), vars = pointers(environment);

  int output[2], failure[2];
  if (::pipe2(output, O_CLOEXEC) != 0) throw failed("pipe");
  if (::pipe2(failure, O_CLOEXEC) != 0) {
    ::close(output[0]), ::close(output[1]);
    throw failed("pipe");
  }
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) exec_child(args.data(), vars.data(), input, output[1], failure[1], parent);
  const int fork_error = errno;
  ::close(output[1]), ::close(failure[1]);

  // The failure pipe closes by itself when exec succeeds, else it brings the errno.
  int error = pid_ < 0 ? fork_error : 0;
  if (pid_ > 0 && ::read(failure[0], &error, sizeof error) != sizeof error) error = 0;
  ::close(failure[0]);
  if (error != 0) {
    ::close(output[0]);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    throw std::system_error(error, std::generic_category(), fmt::format("cannot start {}", argv[0]));
  }
  ::setpgid(pid_, pid_);  // also here: whoever comes first
  output_.assign(output[0]);
  pidfd_.assign(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

Child::~Child() {
  if (reaped_) return;
  kill(SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Child::kill(int signal) {
  if (!reaped_) ::kill(-pid_, signal);
}

Task<std::optional<std::string>> Child::read_line() {
  while (true) {
    const auto end = buffer_.find('\n');
    if (end != std::string::npos || buffer_.size() >= kLineSizeMax) {
      std::string line = buffer_.substr(0, std::min(end, kLineSizeMax));
      buffer_.erase(0, line.size() + (line.size() == end ? 1 : 0));
      co_return line;
    }
    char chunk[kLineSizeMax];
    boost::system::error_code error;
    const auto n =
        co_await output_.async_read_some(asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) throw boost::system::system_error(error);
    if (error) {
      if (buffer_.empty()) co_return std::nullopt;
      co_return std::exchange(buffer_, {});
    }
    buffer_.append(chunk, n);
  }
}

Task<std::string> Child::wait() {
  co_await pidfd_.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  ::kill(-pid_, SIGKILL);  // whatever of its group is left
  reaped_ = true;
  if (WIFSIGNALED(status)) co_return fmt::format("signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  co_return fmt::format("exit code {}", WEXITSTATUS(status));
}

}  // namespace penstock
