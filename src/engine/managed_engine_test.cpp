#include "engine/managed_engine.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/log.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

// A shell or Python script stands in for llama-server; each start leaves a line in the file "starts".
class ManagedEngineTest : public testing::Test {
 protected:
  ManagedEngineTest() { log::set_level(log::Level::off); }
  ~ManagedEngineTest() override {
    tasks.cancel();
    EXPECT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));
    poll(loop);
    log::set_level(log::Level::info);
  }

  ManagedEngine& start(const std::string& script, ManagedEngine::Options options = {}) {
    const std::string program = folder.write("server", script);
    ::chmod(program.c_str(), 0700);
    return start_program(program, std::move(options));
  }
  // As llama-server, unless the options have a command.
  ManagedEngine& start_program(const std::string& program, ManagedEngine::Options options = {}) {
    options.model = "m";
    options.path = folder / "m.gguf";
    if (options.command.empty()) {
      options.command = command_template({.engine = "llama.cpp", .program = program, .args = {"--threads", "2"}});
    }
    options.socket = folder / "m.sock";
    if (options.slot_folder.empty()) options.slot_folder = folder / "slots";
    options.log = folder / "m.log";
    options.slots = 3;
    options.context = 100;
    engine = std::make_unique<ManagedEngine>(loop, clock, std::move(options), [this] { ++changes; });
    if (wanted) engine->set_wanted(true);
    changes = 0;
    tasks.keep("engine", clock, [this] { return engine->run(); });
    return *engine;
  }
  std::string shell(const std::string& script) const {
    return fmt::format("#!/bin/sh\necho start >> {}\n{}\n", folder / "starts", script);
  }
  // Answers everything with its command line.
  std::string server(const std::string& more = "", const std::string& more_of_get = "pass") const {
    return fmt::format(R"(#!/usr/bin/env python3
import http.server, json, os, socketserver, sys, time
open("{}", "a").write("start\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "peer"
    def answer(self, value):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        {}
        self.answer({{"data": [{{"id": "m"}}]}})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        {}
        self.answer({{"argv": sys.argv[1:], "env": os.environ.get("GPU")}})
host = sys.argv[sys.argv.index("--host") + 1]
if "--port" in sys.argv:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
socketserver.ThreadingUnixStreamServer(host, Handler).serve_forever()
)",
                       folder / "starts", more_of_get, more);
  }
  std::size_t starts() const {
    std::ifstream in(folder / "starts");
    std::size_t lines = 0;
    for (std::string line; std::getline(in, line);) ++lines;
    return lines;
  }
  // Until it has ended and the pause before the next start has begun.
  [[nodiscard]] bool until_pausing_for(int pause) {
    return run_until(loop, [&] { return clock.has_alarm_at(clock.monotonic() + Millis{pause}); });
  }
  // With time passing, so that it is probed and started again.
  [[nodiscard]] bool until_ready() {
    return run_until(loop, [&] {
      clock.advance(Millis{10});
      return engine->ready();
    });
  }

  TempDir folder;
  asio::io_context loop;
  FakeClock clock{loop};
  std::unique_ptr<ManagedEngine> engine;
  TaskGroup tasks{loop};
  int changes = 0;
  bool wanted = true;  // from the start
};

TEST_F(ManagedEngineTest, AProgramThatEndsIsStartedAgainWithGrowingPausesAndThenEveryFiveMinutes) {
  start(shell("exit 3"));
  std::size_t expected = 1;
  for (const int pause : {500, 1'000, 300'000, 300'000}) {
    ASSERT_TRUE(until_pausing_for(pause)) << pause;
    EXPECT_EQ(starts(), expected);
    clock.advance(Millis{pause - 1});
    poll(loop);
    EXPECT_EQ(starts(), expected) << pause;
    clock.advance(Millis{1});
    ++expected;
  }
  EXPECT_EQ(changes, 2);  // from the third on it was hopeless
}

TEST_F(ManagedEngineTest, ItsLastWordsTellWhyItEnded) {
  ManagedEngine& e =
      start(shell("for i in 1 2 3 4 5 6 7 8 9 10; do echo word $i; done; echo out of memory >&2; exit 3"));
  EXPECT_FALSE(e.trouble().empty());
  ASSERT_TRUE(until_pausing_for(500));
  EXPECT_NE(e.trouble().find("exit code 3"), std::string::npos) << e.trouble();
  EXPECT_NE(e.trouble().find("word 10\n  out of memory"), std::string::npos) << e.trouble();
  EXPECT_EQ(e.trouble().find("word 2"), std::string::npos) << "more than its last words: " << e.trouble();
}

TEST_F(ManagedEngineTest, ThreeFailedStartsInARowAreHopeless) {
  ManagedEngine& e = start(shell("exit 1"));
  for (const int pause : {500, 1'000, 300'000}) {
    EXPECT_FALSE(e.hopeless()) << pause;
    ASSERT_TRUE(until_pausing_for(pause));
    clock.advance(Millis{pause});
  }
  EXPECT_TRUE(e.hopeless());
  EXPECT_FALSE(e.ready());
  ASSERT_TRUE(until_pausing_for(300'000));
  EXPECT_FALSE(e.may_start());
  e.set_wanted(false);
  clock.advance(Millis{300'000});
  poll(loop);
  EXPECT_TRUE(e.may_start());
  EXPECT_EQ(starts(), 4u) << "it is not wanted";
  e.set_wanted(true);
  ASSERT_TRUE(run_until(loop, [&] { return starts() == 5; }));
}

TEST_F(ManagedEngineTest, AProgramThatIsMissingIsHopelessTooAndNamed) {
  ManagedEngine& e = start_program(folder / "no-such-program");
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{1'000});
    return e.hopeless();
  }));
  EXPECT_NE(e.trouble().find("no-such-program"), std::string::npos) << e.trouble();
}

TEST_F(ManagedEngineTest, AFolderThatCannotBeMadeIsAFailedStart) {
  ManagedEngine::Options options;
  options.slot_folder = folder / "server/slots";  // in a file
  ManagedEngine& e = start(shell("exit 1"), std::move(options));
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{1'000});
    return e.hopeless();
  }));
  EXPECT_NE(e.trouble().find("server/slots"), std::string::npos) << e.trouble();
  EXPECT_EQ(starts(), 0u);
}

TEST_F(ManagedEngineTest, ServesItsModelOnItsSocketWithTheArgumentsItWasGiven) {
  ManagedEngine& e = start(server());
  EXPECT_EQ(e.models(), std::vector<std::string>{"m"});  // known from the start
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(changes, 1);
  const Answer answer = run_task(loop, e.send("/v1/chat/completions", "{}"));
  EXPECT_EQ(answer.status, 200);
  for (const char* words :
       {"\"--parallel\", \"3\"", "\"--ctx-size\", \"300\"", "\"--alias\", \"m\"", "\"--threads\", \"2\"]"}) {
    EXPECT_NE(answer.body.find(words), std::string::npos) << words << " in " << answer.body;
  }
  EXPECT_NE(answer.body.find(folder / "m.gguf"), std::string::npos);
}

TEST_F(ManagedEngineTest, ServesOnAPortWithAnEnvironmentOfItsOwnWhenItsTemplateSaysSo) {
  const std::string program = folder / "server";
  ManagedEngine::Options options;
  options.command = command_template({.engine = "vllm", .program = program, .has_context = true, .args = {}});
  options.env = {{"GPU", "1"}};
  ManagedEngine& e = start(server(), std::move(options));
  ASSERT_TRUE(until_ready());
  const Answer answer = run_task(loop, e.send("/v1/chat/completions", "{}"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.body.find("\"serve\", \"" + (folder / "m.gguf") + "\""), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("\"--max-model-len\", \"100\"]"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("\"env\": \"1\""), std::string::npos) << answer.body;
}

TEST_F(ManagedEngineTest, WhatItPrintsIsInItsLog) {
  start(shell("echo one; printf 'two\\033\\377\\n'; exit 3"));
  ASSERT_TRUE(until_pausing_for(500));
  std::ifstream log(folder / "m.log");
  const std::string text(std::istreambuf_iterator<char>(log), {});
  EXPECT_NE(text.find("one\ntwo\033\377\npenstock: it ended with exit code 3\n"), std::string::npos) << text;
  EXPECT_NE(engine->trouble().find("two??"), std::string::npos) << "no byte that is not plain: " << engine->trouble();
}

TEST_F(ManagedEngineTest, RunsOnlyWhileItIsWanted) {
  wanted = false;
  ManagedEngine& e = start(server());
  poll(loop);
  EXPECT_EQ(starts(), 0u);
  EXPECT_FALSE(e.holds_device());
  EXPECT_EQ(e.models(), std::vector<std::string>{"m"});
  EXPECT_EQ(e.trouble(), "");
  e.set_wanted(true);
  EXPECT_TRUE(e.holds_device());
  EXPECT_NE(e.trouble(), "");
  ASSERT_TRUE(until_ready());
  e.set_wanted(false);
  EXPECT_FALSE(e.ready());
  ASSERT_TRUE(run_until(loop, [&] { return !e.holds_device(); }));
  const int before = changes;
  ASSERT_TRUE(run_until(loop, [&] { return changes > before; })) << "who waits for the device is told";
  EXPECT_EQ(e.trouble(), "");
  EXPECT_FALSE(e.hopeless());
  e.set_wanted(true);
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(starts(), 2u);
}

TEST_F(ManagedEngineTest, LinesUnderWayEndBeforeItsProgramIsEnded) {
  ManagedEngine& e = start(
      server(fmt::format("open('{0}', 'w'); [time.sleep(0.01) for _ in iter(lambda: os.path.exists('{1}'), True)]",
                         folder / "asked", folder / "go")));
  ASSERT_TRUE(until_ready());
  std::optional<Answer> answer;
  const auto ask = [](Engine& one, std::optional<Answer>& out) -> Task<> {
    out = co_await one.send("/v1/chat/completions", "{}");
  };
  tasks.spawn("line", ask(e, answer));
  ASSERT_TRUE(run_until(loop, [&] { return std::filesystem::exists(folder / "asked"); }));
  e.set_wanted(false);
  EXPECT_FALSE(e.ready());
  poll(loop);
  EXPECT_TRUE(e.holds_device());
  folder.write("go", "");
  ASSERT_TRUE(run_until(loop, [&] { return !e.holds_device(); }));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
}

TEST_F(ManagedEngineTest, ItsProgramIsKeptUntilItHasToldItsLoad) {
  ManagedEngine& e =
      start(server("", fmt::format("if self.path == '/metrics': open('{0}', 'w'); "
                                   "[time.sleep(0.01) for _ in iter(lambda: os.path.exists('{1}'), True)]; "
                                   "return self.answer(b'llamacpp:requests_processing 2')",
                                   folder / "asked", folder / "go")));
  ASSERT_TRUE(until_ready());
  std::optional<Load> load;
  const auto ask = [](Engine& one, std::optional<Load>& out) -> Task<> { out = co_await one.load(); };
  tasks.spawn("load", ask(e, load));
  ASSERT_TRUE(run_until(loop, [&] { return std::filesystem::exists(folder / "asked"); }));
  e.set_wanted(false);
  poll(loop);
  EXPECT_TRUE(e.holds_device());
  folder.write("go", "");
  ASSERT_TRUE(run_until(loop, [&] { return !e.holds_device(); }));
  EXPECT_TRUE(load);
}

TEST_F(ManagedEngineTest, AProgramThatEndsOnlyWithoutClientsEndsWhileItLoads) {
  ManagedEngine& e = start(fmt::format(R"(#!/usr/bin/env python3
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[sys.argv.index("--host") + 1])
server.listen()
client = server.accept()[0]
while client.recv(65536):
    client.sendall(b"HTTP/1.1 503 Loading\r\nContent-Length: 0\r\n\r\n")
    open("{}", "w")
)",
                                       folder / "answered"));
  ASSERT_TRUE(run_until(loop, [&] {
    clock.advance(Millis{1});
    return std::filesystem::exists(folder / "answered");
  }));
  poll(loop);  // its connection is idle now
  e.set_wanted(false);
  EXPECT_TRUE(run_until(loop, [&] { return !e.holds_device(); }));
}

TEST_F(ManagedEngineTest, WhoIsNotWantedAnyMoreWhenItsLastLineEndsIsNotStarted) {
  // Its program leaves the connection to another, and dies.
  ManagedEngine& e = start(server(fmt::format(
      "if os.fork() > 0: [time.sleep(0.01) for _ in iter(lambda: os.path.exists('{0}'), True)]; os._exit(9)\n"
      "        os.setsid(); os.closerange(0, 3); open('{0}', 'w').close()\n"
      "        [time.sleep(0.01) for _ in range(3000) if not os.path.exists('{1}')]; os._exit(0)",
      folder / "asked", folder / "go")));
  ASSERT_TRUE(until_ready());
  const auto ask = [](Engine& one) -> Task<> { co_await one.send("/v1/chat/completions", "{}"); };
  tasks.spawn("line", ask(e));
  ASSERT_TRUE(run_until(loop, [&] { return std::filesystem::exists(folder / "asked"); }));
  ASSERT_TRUE(until_pausing_for(500));
  clock.advance(Millis{500});
  poll(loop);
  e.set_wanted(false);
  folder.write("go", "");
  ASSERT_TRUE(run_until(loop, [&] { return tasks.size() == 1; }));
  poll(loop);
  EXPECT_EQ(e.holds_device(), false);
  EXPECT_EQ(starts(), 1u);
}

TEST_F(ManagedEngineTest, AProgramThatDoesNotEndWhenAskedToIsEnded) {
  ManagedEngine& e =
      start("#!/usr/bin/env python3\nimport signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + server());
  ASSERT_TRUE(until_ready());
  e.set_wanted(false);
  ASSERT_TRUE(until_pausing_for(10'000));
  EXPECT_TRUE(e.holds_device());
  clock.advance(Millis{10'000});
  ASSERT_TRUE(run_until(loop, [&] { return !e.holds_device(); }));
}

TEST_F(ManagedEngineTest, WhoIsWantedAgainBeforeItsLastLineHasEndedGoesOn) {
  ManagedEngine& e = start(
      server(fmt::format("open('{0}', 'w'); [time.sleep(0.01) for _ in iter(lambda: os.path.exists('{1}'), True)]",
                         folder / "asked", folder / "go")));
  ASSERT_TRUE(until_ready());
  const auto ask = [](Engine& one) -> Task<> { co_await one.send("/v1/chat/completions", "{}"); };
  tasks.spawn("line", ask(e));
  ASSERT_TRUE(run_until(loop, [&] { return std::filesystem::exists(folder / "asked"); }));
  e.set_wanted(false);
  poll(loop);
  e.set_wanted(true);
  EXPECT_TRUE(e.ready());
  folder.write("go", "");
  ASSERT_TRUE(run_until(loop, [&] { return tasks.size() == 1; }));
  EXPECT_EQ(run_task(loop, e.send("/v1/chat/completions", "{}")).status, 200);
  EXPECT_EQ(starts(), 1u);
}

TEST_F(ManagedEngineTest, AnEngineThatDiesUnderALineIsDownAtOnceAndComesBack) {
  folder.write("m.sock", "left behind");
  ManagedEngine& e = start(server("os._exit(9)"));
  ASSERT_TRUE(until_ready());
  const Answer answer = run_task(loop, e.send("/v1/chat/completions", "{}"));
  EXPECT_EQ(answer.kind, Answer::Kind::died);
  EXPECT_FALSE(e.ready());
  ASSERT_TRUE(until_pausing_for(500));
  EXPECT_NE(e.trouble().find("exit code 9"), std::string::npos) << e.trouble();
  EXPECT_EQ(changes, 2);
  ASSERT_TRUE(until_ready());
  EXPECT_EQ(starts(), 2u);
  EXPECT_FALSE(e.hopeless());
}

TEST_F(ManagedEngineTest, AnEngineThatIsKilledByALineAgainAndAgainIsNotHopeless) {
  ManagedEngine& e = start(server("os._exit(9)"));
  for (const int pause : {500, 1'000, 2'000, 4'000}) {
    ASSERT_TRUE(until_ready());
    const Answer answer = run_task(loop, e.send("/v1/chat/completions", "{}"));
    EXPECT_EQ(answer.kind, Answer::Kind::died);
    ASSERT_TRUE(until_pausing_for(pause)) << pause;
    EXPECT_FALSE(e.hopeless());
    clock.advance(Millis{pause});
  }
}

TEST_F(ManagedEngineTest, AnEngineThatDiesWithoutALineIsDownToo) {
  const std::string program = server();
  start("#!/usr/bin/env python3\nimport os\nopen('" + (folder / "pid") + "', 'w').write(str(os.getpid()) + '\\n')\n" +
        program);
  ASSERT_TRUE(until_ready());
  pid_t pid = 0;
  ASSERT_TRUE(std::ifstream(folder / "pid") >> pid);
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(run_until(loop, [&] { return !engine->ready(); }));
  EXPECT_EQ(changes, 2);
  ASSERT_TRUE(until_pausing_for(500));
  EXPECT_NE(engine->trouble().find("signal 9"), std::string::npos) << engine->trouble();
}

TEST_F(ManagedEngineTest, CancellingEndsTheProgram) {
  start(shell("echo $$ > " + (folder / "pid") + "; exec sleep 1000"));
  pid_t pid = 0;
  ASSERT_TRUE(run_until(loop, [&] { return (std::ifstream(folder / "pid") >> pid) && pid > 0; }));
  tasks.cancel();
  ASSERT_TRUE(run_until(loop, [&] { return ::kill(pid, 0) != 0; }));
}

}  // namespace
}  // namespace penstock
