#include "engine/prefix_slots.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>

#include "base/log.h"
#include "testing/fake_clock.h"
#include "testing/fixtures.h"
#include "testing/run_task.h"
#include "testing/scripted_engine.h"

namespace penstock {
namespace {

// A llama-server that writes down what it is asked, and answers when it is let.
class PrefixSlotsTest : public testing::Test {
 protected:
  PrefixSlotsTest() { log::set_level(log::Level::off); }
  ~PrefixSlotsTest() override {
    tasks.cancel();
    release(asked.size());
    EXPECT_TRUE(run_until(loop, [&] { return tasks.size() == 0; }));
    log::set_level(log::Level::info);
  }

  Task<Answer> answer(std::string path, std::string body) {
    const std::size_t number = asked.size();
    asked.push_back(short_form(path, body));
    gates.emplace_back(loop);
    co_await gates.at(number).wait();
    if (dies) co_return no_answer(Answer::Kind::died);
    co_return answered(path.starts_with("/slots") ? slots_status : 200, "{}");
  }
  // Lets the answers go that have waited longest.
  void release(std::size_t count) {
    for (; count > 0 && released < gates.size(); --count) {
      gates.at(released++).notify();
      poll(loop);
    }
  }
  Task<> send_one(std::string body, std::size_t shared_ahead, std::string path) {
    const Answer got = co_await slots.send(path, body, shared_ahead);
    ++(got.kind == Answer::Kind::died ? deaths : answers);
  }
  void send(const std::string& body, std::size_t shared_ahead = 0, const std::string& path = "/v1/chat/completions") {
    tasks.spawn("send", send_one(body, shared_ahead, path));
    poll(loop);
  }
  // A body whose prompt begins with 2,000 of that letter.
  static std::string body(char prefix, const std::string& question) {
    return fmt::format(R"({{"p":"{}{}"}})", std::string(2'000, prefix), question);
  }
  // "save 2 prefix-1", "prompt 0 aX" or "line 0 aX".
  static std::string short_form(const std::string& path, const std::string& body) {
    if (path.starts_with("/slots/")) {
      return fmt::format("{} {} {}", path.substr(path.find('=') + 1), path.substr(7, path.find('?') - 7),
                         body.substr(13, body.size() - 15));
    }
    const auto slot = body.starts_with(R"({"id_slot":)") ? body.substr(11, body.find(',') - 11) : "-";
    const auto end = body.find("\"", body.find(R"("p":")") + 5);
    const char last = body[end - 1];
    return fmt::format("{} {} {}{}", body.find(R"("n_predict":0)") == body.npos ? "line" : "prompt", slot,
                       body[end - 2], last);
  }
  std::vector<std::string> news() {
    std::vector<std::string> more(asked.begin() + static_cast<std::ptrdiff_t>(told), asked.end());
    told = asked.size();
    return more;
  }
  static std::vector<std::string> sorted(std::vector<std::string> lines) {
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  using Lines = std::vector<std::string>;

  asio::io_context loop;
  FakeClock clock{loop};
  std::vector<std::string> asked;
  std::size_t told = 0, released = 0;
  std::deque<Event> gates;
  int slots_status = 200, answers = 0, deaths = 0;
  bool dies = false;
  PrefixSlots slots{
      loop, clock, PrefixSlots::Options{.slots = 3, .folder = "/nowhere"},
      [this](std::string_view path, std::string_view body) { return answer(std::string(path), std::string(body)); }};
  TaskGroup tasks{loop};
};

TEST_F(PrefixSlotsTest, TheFirstOfAGroupEvaluatesItsPrefixAndTheOthersTakeItOver) {
  send(body('a', "1"), 2'000);
  send(body('a', "2"), 2'000);
  send(body('a', "3"), 2'000);
  EXPECT_EQ(news(), Lines{"prompt 0 a1"});
  clock.advance(Millis{500});
  release(1);
  EXPECT_EQ(news(), Lines{"save 0 prefix-1"});
  release(1);
  EXPECT_EQ(news(), (Lines{"line 0 a1", "restore 1 prefix-1", "restore 2 prefix-1"}));
  release(3);
  EXPECT_EQ(news(), (Lines{"line 1 a2", "line 2 a3"}));
  release(2);
  EXPECT_EQ(answers, 3);
  // Each slot has it by now.
  send(body('a', "4"), 2'000);
  send(body('a', "5"), 2'000);
  EXPECT_EQ(news(), (Lines{"line 0 a4", "line 1 a5"}));
}

TEST_F(PrefixSlotsTest, WhatIsNotSharedIsSentAtOnce) {
  send(body('a', "1"), 40);
  send(body('b', "1"), 1'000);  // not worth it
  EXPECT_EQ(news(), (Lines{"line 0 a1", "line 1 b1"}));
  send(body('c', "1"), 2'000, "/v1/embeddings");
  EXPECT_EQ(news(), Lines{"line - c1"});
  send(body('c', "2"));
  send(body('c', "3"));  // more than there are slots
  EXPECT_EQ(news(), (Lines{"line 2 c2", "line - c3"}));
}

TEST_F(PrefixSlotsTest, ALineGoesToTheSlotThatHasMostOfIt) {
  send(body('a', "1"));
  send(body('b', "1"));
  release(2);
  send(body('b', "2"));
  send(body('a', "2"));
  EXPECT_EQ(news(), (Lines{"line 0 a1", "line 1 b1", "line 1 b2", "line 0 a2"}));
}

TEST_F(PrefixSlotsTest, AnotherGroupIsLedByTheSlotThatIsFreeFirst) {
  for (const char* question : {"1", "2", "3"}) send(body('a', question), 2'000);
  clock.advance(Millis{500});
  release(5);  // the first has its answer, the others are sent
  news();
  send(body('b', "1"), 2'000);
  release(1);
  send(body('b', "2"), 2'000);  // waits, with a slot that is free
  EXPECT_EQ(news(), Lines{"prompt 0 b1"});
}

TEST_F(PrefixSlotsTest, WhereSlotsCannotBeSavedLinesAreSentAsTheyCome) {
  slots_status = 501;
  send(body('a', "1"), 2'000);
  send(body('a', "2"), 2'000);
  release(1);
  EXPECT_EQ(news(), (Lines{"prompt 0 a1", "save 0 prefix-1"}));
  release(1);
  EXPECT_EQ(sorted(news()), (Lines{"line 0 a1", "line 1 a2"}));
  release(2);
  EXPECT_EQ(answers, 2);
  send(body('b', "1"), 2'000);
  EXPECT_EQ(news(), Lines{"line 0 b1"});
}

TEST_F(PrefixSlotsTest, WhereAFileIsNoQuickerThanEvaluationItIsGivenUp) {
  send(body('a', "1"), 2'000);
  send(body('a', "2"), 2'000);
  clock.advance(Millis{10});
  release(2);  // evaluated and saved
  clock.advance(Millis{9});
  release(2);  // a line, and a slot restored
  EXPECT_EQ(news().back(), "line 1 a2");
  release(1);
  send(body('b', "1"), 2'000);
  EXPECT_EQ(news(), Lines{"line 0 b1"});
}

// What kills the server may be the line, so the line is told.
TEST_F(PrefixSlotsTest, ALineWhosePromptKillsTheServerIsNotSentAgain) {
  send(body('a', "1"), 2'000);
  dies = true;
  release(1);
  EXPECT_EQ(news(), Lines{"prompt 0 a1"});
  EXPECT_EQ(deaths, 1);
}

TEST_F(PrefixSlotsTest, TwoPrefixesAreKept) {
  for (const char prefix : {'a', 'b', 'c'}) send(body(prefix, "1"), 2'000);
  clock.advance(Millis{500});
  release(9);  // evaluated, saved, answered
  EXPECT_EQ(answers, 3);
  news();
  for (const char prefix : {'d', 'e', 'f'}) send(body(prefix, "1"));  // the slots hold these now
  release(3);
  for (const char prefix : {'a', 'b', 'c'}) send(body(prefix, "2"));
  EXPECT_EQ(news(),
            (Lines{"line 0 d1", "line 1 e1", "line 2 f1", "line 0 a2", "restore 1 prefix-2", "restore 2 prefix-3"}));
  slots.forget_all();
}

TEST_F(PrefixSlotsTest, AListOfPromptsIsLeftToTheServer) {
  send(R"({"prompt": ["p":"x","y"]})", 2'000, "/v1/completions");
  send(body('a', "1").replace(1, 0, R"("prompt": "q",)"), 0, "/v1/completions");
  EXPECT_EQ(asked.size(), 2u);
  EXPECT_EQ(asked[0].substr(0, 6), "line -");
  EXPECT_EQ(asked[1].substr(0, 6), "line 0");
}

TEST_F(PrefixSlotsTest, WhenTheFirstIsCancelledAnotherLeads) {
  TaskGroup first(loop);
  first.spawn("send", send_one(body('a', "1"), 2'000, "/v1/chat/completions"));
  poll(loop);
  send(body('a', "2"), 2'000);
  send(body('a', "3"), 2'000);
  EXPECT_EQ(news(), Lines{"prompt 0 a1"});
  first.cancel();
  EXPECT_TRUE(run_until(loop, [&] { return first.size() == 0; }));
  poll(loop);
  ++released;  // the gate that nobody waits at
  EXPECT_EQ(news(), Lines{"prompt 1 a2"});
  clock.advance(Millis{500});
  release(2);
  EXPECT_EQ(news(), (Lines{"save 1 prefix-2", "line 1 a2", "restore 2 prefix-2"}));
}

}  // namespace
}  // namespace penstock
