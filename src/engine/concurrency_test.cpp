#include "engine/concurrency.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>

namespace penstock {
namespace {

// Lets a test say what happens, at times that it sets.
class ConcurrencyTest : public testing::Test {
 protected:
  void make(int slots, bool is_shared = false) { concurrency.emplace(slots, is_shared); }
  // Sends as many as it may; how many are under way then.
  int fill() {
    while (concurrency->under_way() < concurrency->size()) sent.push_back(concurrency->begin(now));
    return concurrency->under_way();
  }
  void answer(int count, Sign sign = Sign::good) {
    for (; count > 0; --count) {
      concurrency->answered(sent.front(), sign, 1, now);
      concurrency->end(now);
      sent.pop_front();
    }
  }
  void answer_all(Sign sign = Sign::good) { answer(static_cast<int>(sent.size()), sign); }
  void tell(double running, double waiting, double cache = 0) {
    now += Millis{250};
    concurrency->told(Load{running, waiting, cache}, is_only_one, now);
  }
  // As an engine with such a number of slots would.
  void tell_of(int slots, int times = 1) {
    for (; times > 0; --times) {
      const int running = std::min(slots, concurrency->under_way());
      tell(running, concurrency->under_way() - running);
      while (static_cast<int>(sent.size()) > concurrency->size()) answer(1);
      fill();
    }
  }

  bool is_only_one = true;
  std::optional<Concurrency> concurrency;
  std::deque<Concurrency::Request> sent;
  Moment now{Millis{1'000'000}};
};

TEST_F(ConcurrencyTest, AnEngineOfUnknownSlotsIsGivenTwiceAsMuchUntilRequestsWaitInIt) {
  make(0);
  EXPECT_EQ(fill(), 64);
  for (const int size : {128, 256, 512}) {
    tell_of(300);
    EXPECT_EQ(fill(), size);
  }
  tell_of(300, 4);
  EXPECT_EQ(fill(), 512);  // it may be about to take them in
  tell_of(300);
  EXPECT_EQ(fill(), 310);  // a few wait, so that it never does
  tell_of(300, 100);
  EXPECT_EQ(fill(), 310);
}

TEST_F(ConcurrencyTest, AnEngineThatTakesInMoreThanBeforeIsGivenTime) {
  make(0);
  fill();
  for (int running = 4; running < 64; running += 5) {
    tell(running, 64 - running);
    EXPECT_EQ(concurrency->size(), 64);
  }
}

TEST_F(ConcurrencyTest, TheNumberFollowsWhatTheEngineHasRoomFor) {
  make(0);
  fill();
  tell_of(300, 20);
  tell_of(100, 20);
  EXPECT_EQ(fill(), 104);
  tell_of(300, 100);
  EXPECT_GE(fill(), 300);
  EXPECT_LE(fill(), 330);
}

TEST_F(ConcurrencyTest, AnEngineIsNotGivenMoreThatIsNotUsedOrWhenItsCacheIsFull) {
  make(0);
  tell(0, 0);
  EXPECT_EQ(concurrency->size(), 64);  // nothing is under way
  fill();
  tell(20, 0);  // the others have not come to it yet
  tell(64, 0, 0.97);
  EXPECT_EQ(concurrency->size(), 64);
  tell(64, 0, 0.9);
  EXPECT_EQ(concurrency->size(), 128);
}

TEST_F(ConcurrencyTest, AnEngineAmongOthersIsGivenMoreAsItAnswers) {
  is_only_one = false;
  make(0);
  fill();
  tell_of(300, 5);
  EXPECT_EQ(fill(), 64);
  for (int i = 0; i < 64; ++i) {
    answer(1);
    fill();
  }
  EXPECT_EQ(fill(), 128);
}

TEST_F(ConcurrencyTest, NoEngineIsGivenMoreThanTheHighestNumber) {
  make(0);
  fill();
  tell_of(5000, 20);
  EXPECT_EQ(concurrency->size(), Concurrency::kMax);
}

TEST_F(ConcurrencyTest, AnEngineThatRefusesRequestsIsGivenHalfAndALittleLessThanWasGoodOnceThatIsKnown) {
  make(0);
  fill();
  answer_all(Sign::overloaded);
  EXPECT_EQ(concurrency->size(), 32);
  for (int i = 0; i < 32 + 36; ++i) {
    now += Millis{10};
    fill();
    answer(1);
  }
  const int grown = fill();
  EXPECT_GT(grown, 32);
  answer(1, Sign::overloaded);
  EXPECT_EQ(concurrency->size(), grown - grown / 8);
}

TEST_F(ConcurrencyTest, SlotsThatBecomeKnownAreKeptTo) {
  make(0);
  fill();
  concurrency->know(8);
  EXPECT_EQ(concurrency->size(), 8);
  EXPECT_FALSE(concurrency->wants_load());
  concurrency->away();
  concurrency->know(0);
  EXPECT_EQ(concurrency->size(), 1);
  EXPECT_TRUE(concurrency->wants_load());
}

TEST_F(ConcurrencyTest, ASharedEngineIsLeftToOthersAsLongAsTheyUseItAndTakenBackBySteps) {
  make(0, true);
  fill();
  for (int i = 0; i < 20; ++i) tell(64, 0);
  EXPECT_EQ(concurrency->size(), 64);
  tell(65, 0);
  EXPECT_EQ(concurrency->size(), 1);
  answer_all();
  fill();
  for (int i = 0; i < 20; ++i) {
    tell(1, 1);  // somebody waits
    EXPECT_EQ(concurrency->size(), 1);
  }
  now -= Millis{250};
  const Moment gone = now;
  while (concurrency->size() < 64) {
    tell(fill(), 0);
    EXPECT_TRUE(concurrency->size() == 1 || now - gone >= Millis{1'000});
    now -= Millis{150};  // a shared engine is asked more often
    ASSERT_LT(now - gone, Millis{5'000});
  }
}

TEST_F(ConcurrencyTest, ASharedEnginesLoadOfAMomentAgoIsNotTakenForOthers) {
  make(0, true);
  fill();
  tell(64, 0);
  answer(30);
  tell(64, 0);  // it has not noticed
  EXPECT_GE(concurrency->size(), 64);
}

TEST_F(ConcurrencyTest, PlacesOfASharedEngineStayFree) {
  make(0, true);
  fill();
  tell_of(32, 10);
  EXPECT_EQ(concurrency->size(), 30);  // of 34 that ran or were next
  tell_of(32, 100);
  EXPECT_EQ(concurrency->size(), 30);
  make(8, true);
  EXPECT_EQ(concurrency->size(), 7);
  make(1, true);
  EXPECT_EQ(concurrency->size(), 1);
}

// An engine that computes in steps, and a batch in a closed loop before it. All times are in seconds.
struct Machine {
  int sequences = 256;
  double step = 0.020, per_sequence = 0.00005, per_prompt_token = 0.00005;
  double noise = 0;         // of the time of a step
  int takes = 1'000'000;    // at a time; it refuses more
  double slower_later = 1;  // from the middle of the batch on, so many times
  int sequences_later = 0;  // the same; 0: as many
};

constexpr int kLines = 2000;

// How long the batch takes.
double simulate(const Machine& machine, Concurrency& concurrency, bool tells, unsigned seed) {
  constexpr int kPromptTokensAStep = 2048;
  struct Job {
    int left, tokens;
    double prompt;
    Concurrency::Request request;
  };
  std::mt19937 random(seed), noise_random(seed);
  std::lognormal_distribution<> tokens(std::log(64), 0.8), prompt(std::log(200), 0.5);
  std::normal_distribution<> noise(0, machine.noise);
  double now = 0, next_look = 0, held_until = 0;
  const auto moment = [&] { return Moment(Millis(static_cast<std::int64_t>(1000 * now))); };
  std::deque<Job> waiting;
  std::vector<Job> running;
  int sent = 0, answered = 0;
  while (answered < kLines) {
    const bool later = answered >= kLines / 2;
    const int sequences = later && machine.sequences_later > 0 ? machine.sequences_later : machine.sequences;
    while (now >= held_until && sent < kLines && concurrency.under_way() < concurrency.size()) {
      const auto request = concurrency.begin(moment());
      if (concurrency.under_way() > machine.takes) {
        concurrency.answered(request, Sign::overloaded, 0, moment());
        concurrency.end(moment());
        held_until = now + 1;
        break;
      }
      ++sent;
      const int count = std::max(1, static_cast<int>(tokens(random)));
      waiting.push_back({count, count, prompt(random), request});
    }
    double prompts = 0;
    while (!waiting.empty() && static_cast<int>(running.size()) < sequences && prompts < kPromptTokensAStep) {
      prompts += waiting.front().prompt;
      running.push_back(waiting.front());
      waiting.pop_front();
    }
    const double step = machine.step + machine.per_sequence * static_cast<double>(running.size());
    now += (step + machine.per_prompt_token * prompts) * std::exp(noise(noise_random)) *
           (later ? machine.slower_later : 1);
    std::erase_if(running, [&](Job& job) {
      if (--job.left > 0) return false;
      ++answered;
      concurrency.answered(job.request, Sign::good, job.tokens + 0.25 * job.prompt, moment());
      concurrency.end(moment());
      return true;
    });
    if (tells && now >= next_look) {
      concurrency.told(Load{static_cast<double>(running.size()), static_cast<double>(waiting.size()), 0}, true,
                       moment());
      next_look = now + 0.25;
    }
  }
  return now;
}

TEST(ConcurrencySimulation, TheNumberThatIsFoundIsNearlyAsGoodAsTheBestFixedOne) {
  const std::pair<const char*, Machine> machines[] = {
      {"many sequences", {}},
      {"few", {.sequences = 8}},
      {"one", {.sequences = 1}},
      {"some", {.sequences = 32}},
      {"more than are good", {.sequences = 1000, .per_sequence = 0.0003}},
      {"an uneven pace", {.noise = 0.3}},
      {"few at an uneven pace", {.sequences = 8, .noise = 0.3}},
      {"gets slower", {.slower_later = 4}},
      {"has fewer", {.sequences_later = 64}},
      {"has more", {.sequences = 64, .sequences_later = 256}},
      {"refuses what is beyond some", {.takes = 40}},
  };
  for (const auto& [name, machine] : machines) {
    for (const unsigned seed : {1, 2}) {
      double best = 1e9;
      for (const int fixed : {1, 8, 16, 32, 40, 64, 96, 128, 192, 256, 384, 512}) {
        if (fixed > machine.takes) break;
        Concurrency concurrency(fixed, false);
        best = std::min(best, simulate(machine, concurrency, false, seed));
      }
      for (const bool tells : {false, true}) {
        Concurrency concurrency(0, false);
        EXPECT_LE(simulate(machine, concurrency, tells, seed), best / 0.9) << name << ", seed " << seed << tells;
      }
    }
  }
}

TEST(ConcurrencySimulation, RequestsDoNotWaitInAnEngineThatTellsItsLoad) {
  for (const int sequences : {1, 8, 50, 256}) {
    Concurrency concurrency(0, false);
    simulate({.sequences = sequences}, concurrency, true, 1);
    EXPECT_LE(concurrency.size(), sequences * 1.2 + 2);
  }
}

}  // namespace
}  // namespace penstock
