// Lines that go to an engine together: those that ask the same, and groups of lines for embeddings.
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "batch/dispatcher.h"
#include "testing/process.h"

namespace penstock {
namespace {

namespace json = boost::json;
using Kind = Answer::Kind;

constexpr const char* kEmbeddings = "/v1/embeddings";

std::string line_of(int i, const std::string& url, const std::string& body) {
  return fmt::format("{{\"custom_id\":\"r{}\",\"method\":\"POST\",\"url\":\"{}\",\"body\":{}}}\n", i, url, body);
}

// A question whose answer is always the same; some are long.
std::string asking(char question) {
  return fmt::format(R"({{"model":"m","temperature":0,"messages":["{}"]}})",
                     std::string(std::isupper(question) ? 2'000 : 1, question));
}
// Lines that ask the questions which these letters stand for.
std::string asking(std::string_view questions) {
  std::string lines;
  for (const char question : questions) {
    lines += line_of(static_cast<int>(std::count(lines.begin(), lines.end(), '\n')), "/v1/chat/completions",
                     asking(question));
  }
  return lines;
}

Batch deduped(const std::string& endpoint = "") {
  Batch batch;
  batch.endpoint = endpoint;
  batch.dedupe = true;
  return batch;
}

// Of each line that was saved, what the engine answered, by request index.
std::map<std::uint32_t, json::value> answers(Process& process, const BatchId& id) {
  std::map<std::uint32_t, json::value> all;
  run_task(process.loop, process.disk.db.read([&](Store& store) {
    store.for_each_group(id, [&](const ResultGroup& group) {
      std::size_t at = 0;
      for (const ResultEntry& entry : group.entries) {
        const json::value line = json::parse(std::string_view(group.lines).substr(at, entry.length));
        at += entry.length;
        EXPECT_EQ(line.at("custom_id").as_string(), fmt::format("r{}", entry.index));
        EXPECT_FALSE(all.contains(entry.index)) << "saved twice";
        all[entry.index] = line.at("response");
      }
    });
  }));
  return all;
}

void expect_each_has_its_answer(Process& process, const BatchId& id, std::string_view questions) {
  const auto all = answers(process, id);
  ASSERT_EQ(all.size(), questions.size());
  for (const auto& [index, response] : all) {
    EXPECT_EQ(response.at("body").at("echo"), json::parse(asking(questions[index]))) << index;
  }
}

TEST(DedupeTest, WhatAsksTheSameIsAskedOnceWhileItIsUnderWayAndAfterIt) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const std::string questions = "aaabababcab";
  const BatchId id = process.submit_running(asking(questions), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.settle();
  EXPECT_EQ(engine.bodies, (std::vector{asking('a'), asking('b')}));
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, (std::vector{asking('a'), asking('b'), asking('c')}));
  expect_each_has_its_answer(process, id, questions);
  EXPECT_EQ(process.batch(id).counts, (Counts{11, 11, 0}));
  EXPECT_EQ(process.batch(id).usage, (Usage{9, 0, 6, 0})) << "what the engine worked on";
}

TEST(DedupeTest, IsForBatchesThatWantItAndForWhatIsAlwaysAnsweredAlike) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine();
  process.start_dispatcher();
  process.submit_running(asking("aaa"));
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies.size(), 3u);
  const std::string any = R"({"model":"m","messages":[]})";
  process.submit_running(line_of(0, "/v1/chat/completions", any) + line_of(1, "/v1/chat/completions", any), deduped());
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(engine.bodies.size(), 5u);
  process.submit_running(asking("a"), deduped());  // another batch
  ASSERT_TRUE(process.until([&] { return process.done.size() == 3; }));
  EXPECT_EQ(engine.bodies.size(), 6u);
}

TEST(DedupeTest, ALineThatFailsIsTriedAgainForAllThatAskTheSame) {
  Disk disk;
  Dispatcher::Options options = saving_at_once();
  options.retry.attempts_max = 2;
  Process process(disk, options);
  ScriptedEngine& engine = process.add_engine({.slots = 3});
  int asked = 0;
  engine.script = [&](const std::string&) { return ++asked, answered(500, "{}"); };
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(asking("aaaa"), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
  ASSERT_TRUE(process.until([&] {
    process.settle();
    engine.release(1);
    process.clock.advance(Millis{1'000});
    return process.done.size() == 1;
  }));
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(process.batch(id).counts, (Counts{4, 0, 4}));
  engine.release();

  engine.script = [&](const std::string&) { return ++asked, answered(400, R"({"error":"no"})"); };
  const BatchId refused = process.submit_running(asking("bbbb"), deduped());
  ASSERT_TRUE(process.until([&] { return process.done.size() == 2; }));
  EXPECT_EQ(process.batch(refused).counts, (Counts{4, 0, 4}));
  EXPECT_EQ(asked, 3);
  for (const auto& [index, response] : answers(process, refused)) EXPECT_EQ(response.at("status_code"), 400) << index;
}

TEST(DedupeTest, LinesThatRideAlongArePausedWithTheirBatchWhenTheEngineGoes) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(asking("aaabbb"), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.settle();
  process.pause(id, true);
  engine.set_ready(false);
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 0; }));
  engine.set_ready(true);
  process.settle();
  EXPECT_EQ(engine.bodies.size(), 2u);
  process.pause(id, false);
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies.size(), 4u);
  EXPECT_EQ(std::count(engine.bodies.begin(), engine.bodies.end(), asking('a')), 2);
  expect_each_has_its_answer(process, id, "aaabbb");
}

TEST(DedupeTest, ALineThatRidesWithOneWhoseSpanIsLostGoesOnForIt) {
  Disk disk;
  Dispatcher::Options options = saving_at_once();
  options.retry.attempts_max = 2;
  Process process(disk, options);
  ScriptedEngine& engine = process.add_engine({.slots = 3});
  engine.script = [&](const std::string& body) { return answered(body == asking('a') ? 500 : 400, "{}"); };
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(asking("ba" + std::string(62, 'b') + "a"), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 2; }));
  process.settle();
  const auto stolen = process.write([&](Store& store) {
    store.release_spans(process.name);
    return store.claim_spans({"other", "m", 1}, process.clock.now());
  });
  ASSERT_EQ(stolen.at(0).key.number, 0);
  engine.release(1);  // it hears that the first span is another's when it saves
  process.settle();
  engine.release();
  ASSERT_TRUE(process.until([&] {
    process.settle();
    process.clock.advance(Millis{1'000});
    return process.remaining(id) == 64;
  }));
  EXPECT_EQ(engine.bodies, (std::vector{asking('b'), asking('a'), asking('a')}));
}

TEST(DedupeTest, ADrainTakesThemToo) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(asking("aaaa"), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
  process.settle();
  process.write([&](Store& store) { store.request_cancel(kDefaultProject, id, process.clock.now()).value(); });
  run_task(process.loop, process.dispatcher.drain(id, Millis{0}));
  EXPECT_EQ(engine.in_flight(), 0);
  EXPECT_EQ(process.remaining(id), 4);
  process.settle();
  EXPECT_EQ(engine.bodies.size(), 1u);
}

TEST(DedupeTest, AnyNumberMayAskTheSame) {
  Disk disk;
  Process process(disk, saving_at_once());
  ScriptedEngine& engine = process.add_engine({.slots = 2});
  engine.hold();
  process.start_dispatcher();
  const BatchId id = process.submit_running(asking(std::string(3'000, 'A') + "b"), deduped());
  ASSERT_TRUE(process.until([&] { return engine.in_flight() == 1; }));
  for (int turn = 0; turn < 20; ++turn) process.settle();
  EXPECT_EQ(engine.in_flight(), 1) << "so many lines were loaded that another one came";
  engine.release();
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, (std::vector{asking('A'), asking('b')}));
  EXPECT_EQ(process.batch(id).counts, (Counts{3'001, 3'001, 0}));
  process.submit_running(asking("c"));
  EXPECT_TRUE(process.until([&] { return process.done.size() == 2; }));
}

// --- groups of lines for embeddings

Dispatcher::Options in_groups_of(int size) {
  Dispatcher::Options options = saving_at_once();
  options.embedding_group = size;
  return options;
}

std::string embedding_body(const std::string& input) {
  return fmt::format(R"({{"model":"m","input":"{}"}})", input);
}
std::string embedding_lines(const std::vector<std::string>& inputs) {
  std::string lines;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    lines += line_of(static_cast<int>(i), kEmbeddings, embedding_body(inputs[i]));
  }
  return lines;
}
Batch for_embeddings() {
  Batch batch;
  batch.endpoint = kEmbeddings;
  return batch;
}

// An engine whose vectors are their inputs, and whose tokens are the inputs' characters.
Answer embed(const std::string& body) {
  json::array inputs, data;
  const json::value input = json::parse(body).at("input");
  if (input.is_array()) {
    inputs = input.get_array();
  } else {
    inputs.push_back(input);
  }
  std::size_t tokens = 0;
  for (const json::value& one : inputs) {
    tokens += one.get_string().size();
    data.push_back(json::object{{"index", data.size()}, {"embedding", one}});
  }
  return answered(200, json::serialize(json::object{{"data", data}, {"usage", {{"prompt_tokens", tokens}}}}));
}

void expect_each_has_its_vector(Process& process, const BatchId& id, const std::vector<std::string>& inputs) {
  const auto all = answers(process, id);
  ASSERT_EQ(all.size(), inputs.size());
  for (const auto& [index, response] : all) {
    EXPECT_EQ(response.at("body").at("data"), (json::array{json::object{{"index", 0}, {"embedding", inputs[index]}}}));
  }
}

TEST(EmbeddingGroupsTest, LinesAreSentTogetherAndEachHasItsVector) {
  Disk disk;
  Process process(disk, in_groups_of(4));
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.script = embed;
  process.start_dispatcher();
  const std::vector<std::string> inputs{"a", "bb", "ccc", "dddd", "eeeee", "a", "g", "h", "i"};
  const BatchId id = process.submit_running(embedding_lines(inputs), for_embeddings());
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, (std::vector<std::string>{R"({"model":"m","input":["a","bb","ccc","dddd"]})",
                                                     R"({"model":"m","input":["eeeee","a","g","h"]})",
                                                     R"({"model":"m","input":"i"})"}));
  expect_each_has_its_vector(process, id, inputs);
  EXPECT_EQ(process.batch(id).usage.input, 19);
}

TEST(EmbeddingGroupsTest, WhatComesOfAGroupSaysNothingAboutItsLines) {
  const std::pair<int, Answer> table[] = {{1, answered(400, "{}")},
                                          {1, answered(500, "{}")},
                                          {5, answered(500, "{}")},
                                          {1, answered(200, "garbage")},
                                          {1, answered(200, R"({"data":[]})")},
                                          {5, no_answer(Kind::timeout)},
                                          {1, no_answer(Kind::too_large)}};
  for (const auto& [attempts_max, bad] : table) {
    Disk disk;
    Dispatcher::Options options = in_groups_of(3);
    options.retry.attempts_max = attempts_max;
    Process process(disk, options);
    ScriptedEngine& engine = process.add_engine({.slots = 1});
    engine.script = [&, answer = bad](const std::string& body) {
      return body.find('[') == std::string::npos ? embed(body) : answer;
    };
    process.start_dispatcher();
    const std::vector<std::string> inputs{"a", "b", "c"};
    const BatchId id = process.submit_running(embedding_lines(inputs), for_embeddings());
    ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
    EXPECT_EQ(engine.bodies, (std::vector<std::string>{R"({"model":"m","input":["a","b","c"]})", embedding_body("a"),
                                                       embedding_body("b"), embedding_body("c")}));
    expect_each_has_its_vector(process, id, inputs);
  }
}

TEST(EmbeddingGroupsTest, AnEngineThatIsBusyOrGoneIsSentTheGroupAgain) {
  Disk disk;
  Process process(disk, in_groups_of(3));
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  int asked = 0;
  engine.script = [&](const std::string& body) {
    ++asked;
    if (asked == 1) return answered(429, "{}");
    return asked == 2 ? no_answer(Kind::died) : embed(body);
  };
  process.start_dispatcher();
  const std::vector<std::string> inputs{"a", "b", "c"};
  const BatchId id = process.submit_running(embedding_lines(inputs), for_embeddings());
  ASSERT_TRUE(process.until([&] {
    process.clock.advance(Millis{1'000});
    if (!engine.ready()) engine.set_ready(true);
    return process.done.size() == 1;
  }));
  EXPECT_EQ(engine.bodies, std::vector<std::string>(3, R"({"model":"m","input":["a","b","c"]})"));
  expect_each_has_its_vector(process, id, inputs);
}

TEST(EmbeddingGroupsTest, ALineThatKillsTheEngineIsFoundInItsGroup) {
  Disk disk;
  Process process(disk, in_groups_of(3));
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.script = [&](const std::string& body) {
    return body.find('b') == std::string::npos ? embed(body) : no_answer(Kind::died);
  };
  process.start_dispatcher();
  const BatchId id = process.submit_running(embedding_lines({"a", "b", "c"}), for_embeddings());
  ASSERT_TRUE(process.until([&] {
    poll(process.loop);
    if (!engine.ready()) engine.set_ready(true);
    return process.done.size() == 1;
  }));
  EXPECT_EQ(process.batch(id).counts, (Counts{3, 2, 1}));
  EXPECT_EQ(std::count(engine.bodies.begin(), engine.bodies.end(), embedding_body("b")), 1);
}

TEST(EmbeddingGroupsTest, EqualLinesOfAGroupAreAskedOnceIfTheirBatchWantsIt) {
  Disk disk;
  Process process(disk, in_groups_of(4));
  ScriptedEngine& engine = process.add_engine({.slots = 1});
  engine.script = embed;
  process.start_dispatcher();
  const std::vector<std::string> inputs{"a", "a", "b", "a", "b", "c", "a"};
  const BatchId id = process.submit_running(embedding_lines(inputs), deduped(kEmbeddings));
  ASSERT_TRUE(process.until([&] { return process.done.size() == 1; }));
  EXPECT_EQ(engine.bodies, std::vector<std::string>{R"({"model":"m","input":["a","b","c"]})"});
  expect_each_has_its_vector(process, id, inputs);
  EXPECT_EQ(process.batch(id).usage.input, 3);
}

}  // namespace
}  // namespace penstock
