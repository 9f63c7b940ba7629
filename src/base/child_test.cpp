#include "base/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "testing/run_task.h"

namespace penstock {
namespace {

Task<std::vector<std::string>> read_all_lines(Child& child) {
  std::vector<std::string> lines;
  while (auto line = co_await child.read_line()) lines.push_back(*line);
  co_return lines;
}

class ChildTest : public testing::Test {
 protected:
  std::vector<std::string> lines(Child& child) { return run_task(loop, read_all_lines(child)); }
  std::optional<std::string> line(Child& child) { return run_task(loop, child.read_line()); }
  std::string how_it_ended(Child& child) { return run_task(loop, child.wait()); }
  static std::vector<std::string> shell(const std::string& script) { return {"sh", "-c", script}; }

  asio::io_context loop;
};

using Lines = std::vector<std::string>;

TEST_F(ChildTest, GivesWhatItPrintsLineByLineFromBothStreams) {
  Child child(loop, shell("printf 'one\\n\\ntwo'; printf ' more\\nlast' >&2"));
  EXPECT_EQ(lines(child), (Lines{"one", "", "two more", "last"}));
  EXPECT_EQ(how_it_ended(child), "exit code 0");
}

TEST_F(ChildTest, CutsALongLineAndLosesNoByteOfIt) {
  for (const std::size_t size : {4'095, 4'096, 4'097, 8'192, 10'000}) {
    // Behind a short line, so that cuts do not fall on the ends of reads.
    Child child(loop, shell("printf 'first\\n%" + std::to_string(size) + "s\\nend\\n' x"));
    EXPECT_EQ(line(child), "first");
    std::string all;
    const Lines got = lines(child);
    for (const auto& part : got) {
      EXPECT_LE(part.size(), 4'096u);
      all += part;
    }
    EXPECT_EQ(all, std::string(size - 1, ' ') + "xend") << size;
    EXPECT_EQ(got.back(), "end") << size;
    how_it_ended(child);
  }
}

TEST_F(ChildTest, TellsInWordsHowItEnded) {
  const std::pair<const char*, const char*> table[] = {
      {"exit 0", "exit code 0"},
      {"exit 7", "exit code 7"},
      {"kill -9 $$", "signal 9 (Killed)"},
      {"kill -15 $$", "signal 15 (Terminated)"},
  };
  for (const auto& [script, words] : table) {
    Child child(loop, shell(script));
    EXPECT_EQ(how_it_ended(child), words) << script;
  }
}

TEST_F(ChildTest, ReadsNothingFromItsInput) {
  Child child(loop, {"cat"});
  EXPECT_EQ(lines(child), Lines{});
  EXPECT_EQ(how_it_ended(child), "exit code 0");
}

TEST_F(ChildTest, HandsArgumentsOnAsTheyAre) {
  Child child(loop, {"printf", "%s|", "a b", "$HOME", "'\"", ""});
  EXPECT_EQ(lines(child), Lines{"a b|$HOME|'\"||"});
  how_it_ended(child);
}

TEST_F(ChildTest, AProgramThatIsMissingThrowsAndIsNamed) {
  for (const std::string program : {"no-such-program-here", "/no/such/path"}) {
    try {
      Child child(loop, {program});
      ADD_FAILURE() << program;
    } catch (const std::system_error& e) {
      EXPECT_EQ(e.code().value(), ENOENT);
      EXPECT_NE(std::string(e.what()).find(program), std::string::npos) << e.what();
    }
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a failed start left a process behind";
}

// The output ends only when nobody of the group has it open any more.
constexpr const char* kWithGrandchild = "sleep 1000 & echo started; wait";

TEST_F(ChildTest, KillReachesTheWholeGroup) {
  Child child(loop, shell(kWithGrandchild));
  EXPECT_EQ(line(child), "started");
  child.kill(SIGKILL);
  EXPECT_EQ(lines(child), Lines{});
  EXPECT_EQ(how_it_ended(child), "signal 9 (Killed)");
  child.kill(SIGKILL);  // harmless now
}

TEST_F(ChildTest, WhatItLeavesBehindDiesWhenItHasEnded) {
  Child child(loop, shell("sleep 1000 & echo started"));
  EXPECT_EQ(line(child), "started");
  EXPECT_EQ(how_it_ended(child), "exit code 0");
  EXPECT_EQ(lines(child), Lines{});
}

// Sees a process, ours or not, end.
class Witness {
 public:
  explicit Witness(pid_t pid) : pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}
  ~Witness() { ::close(pidfd_); }
  bool can_see() const { return pidfd_ >= 0; }
  // Within half a minute.
  bool saw_it_end() const {
    pollfd descriptor{pidfd_, POLLIN, 0};
    return ::poll(&descriptor, 1, 30'000) == 1;
  }

 private:
  int pidfd_;
};

TEST_F(ChildTest, DestroyingARunningChildKillsItsGroup) {
  std::unique_ptr<Witness> grandchild;
  {
    Child child(loop, shell("sleep 1000 & echo $!; wait"));
    grandchild = std::make_unique<Witness>(std::stoi(line(child).value()));
    ASSERT_TRUE(grandchild->can_see());
  }
  EXPECT_TRUE(grandchild->saw_it_end());
}

TEST_F(ChildTest, ACancelledWaitThrowsAndTheChildLivesOn) {
  Child child(loop, {"cat", "/proc/self/stat", "/dev/zero"});
  std::exception_ptr failure;
  std::optional<std::string> how;
  TaskGroup group(loop);
  group.spawn("waiting", keep_result(child.wait(), how, failure));
  loop.restart();
  loop.poll();
  group.cancel();
  loop.restart();
  loop.poll();
  EXPECT_EQ(group.size(), 0u);
  ASSERT_TRUE(failure);
  EXPECT_THROW(std::rethrow_exception(failure), boost::system::system_error);
  EXPECT_EQ(::kill(child.pid(), 0), 0);
  child.kill(SIGKILL);
  EXPECT_EQ(how_it_ended(child), "signal 9 (Killed)");
}

TEST_F(ChildTest, DiesWithUsHoweverWeDie) {
  int started[2];
  ASSERT_EQ(::pipe2(started, O_CLOEXEC), 0);
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    asio::io_context own_loop;
    Child child(own_loop, {"sleep", "1000"});
    const pid_t pid = child.pid();
    [[maybe_unused]] const auto n = ::write(started[1], &pid, sizeof pid);
    while (true) ::pause();
  }
  pid_t pid = 0;
  ASSERT_EQ(::read(started[0], &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
  const Witness child(pid);
  ASSERT_TRUE(child.can_see());
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  EXPECT_TRUE(child.saw_it_end());
  ::close(started[0]), ::close(started[1]);
}

TEST_F(ChildTest, InheritsNothingButItsThreeStreams) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);  // without O_CLOEXEC
  Child child(loop, {"sh", "-c", "ls /proc/$$/fd"});
  const Lines descriptors = lines(child);
  for (const int end : ends) {
    EXPECT_EQ(std::count(descriptors.begin(), descriptors.end(), std::to_string(end)), 0) << end;
    ::close(end);
  }
  how_it_ended(child);
}

}  // namespace
}  // namespace penstock
