#include "cli/convert.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

class ConvertTest : public testing::Test {
 protected:
  std::string text_of(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder / name, std::ios::binary).rdbuf();
    return text.str();
  }
  // The batch made of a table; else what is wrong, with names without their folder.
  std::string batch(const std::string& name, const std::string& table, PromptOptions options) {
    if (options.model.empty()) options.model = "m";
    return outcome([&] { prompts_to_batch(folder.write(name, table), folder / "batch.jsonl", options); },
                   "batch.jsonl");
  }
  std::string table(const std::string& output, AnswerOptions options = {}) {
    return outcome([&] { counts = answers_to_table(folder / "answers.jsonl", folder / output, options); }, output);
  }
  template <class F>
  std::string outcome(F f, const std::string& output) {
    std::filesystem::remove(folder / output);
    try {
      f();
    } catch (const UsageError& e) {
      EXPECT_FALSE(std::filesystem::exists(folder / output));
      EXPECT_FALSE(std::filesystem::exists(folder / (output + ".part")));
      std::string words = e.what();
      for (auto at = words.find(folder / ""); at != std::string::npos; at = words.find(folder / "")) {
        words.erase(at, (folder / "").size());
      }
      return words;
    }
    return text_of(output);
  }

  void write_answers(const std::string& name, const std::vector<std::string>& ids,
                     const std::string& content = "\"A-{}\"") {
    std::string lines;
    for (const std::string& id : ids) {
      lines += fmt::format(
          R"({{"id":"x","custom_id":"{}","response":{{"status_code":200,"body":{{"choices":[{{"message":{{"content":{}}},)"
          R"("finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":1}}}}}},"error":null}})",
          id, fmt::format(fmt::runtime(content), id));
      lines += '\n';
    }
    folder.write(name, lines);
  }
  std::string error_line(const std::string& id) const {
    return fmt::format(R"({{"id":"x","custom_id":"{}","response":null,"error":{{"code":"c","message":"E-{}"}}}})", id,
                       id) +
           "\n";
  }

  const TempDir folder;
  AnswerCounts counts;
};

TEST_F(ConvertTest, EachRowBecomesARequestOfItsEndpoint) {
  const std::string rows = "id,text\nx,\"a \"\"b\"\"\n\"\ny,ü\n";
  EXPECT_EQ(
      batch("p.csv", rows, {.prompt = "Say: {text}", .system = "You are {id}.", .id = "id", .set = {"temperature=0"}}),
      R"({"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":{"model":"m","temperature":0,"messages":[{"role":"system","content":"You are x."},{"role":"user","content":"Say: a \"b\"\n"}]}})"
      "\n"
      R"({"custom_id":"y","method":"POST","url":"/v1/chat/completions","body":{"model":"m","temperature":0,"messages":[{"role":"system","content":"You are y."},{"role":"user","content":"Say: ü"}]}})"
      "\n");
  EXPECT_EQ(batch("p.txt", "one\n\n", {.endpoint = "/v1/embeddings"}),
            R"({"custom_id":"row-1","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"one"}})"
            "\n");
  EXPECT_EQ(batch("p.jsonl", R"({"prompt":[1.0],"n":1})", {.endpoint = "/v1/completions"}),
            R"({"custom_id":"row-1","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"[1.0]"}})"
            "\n");
  EXPECT_EQ(
      batch("p.tsv", "a\tprompt\n1\t2\n", {.endpoint = "/v1/responses", .system = "s"}),
      R"({"custom_id":"row-2","method":"POST","url":"/v1/responses","body":{"model":"m","instructions":"s","input":"2"}})"
      "\n");
}

TEST_F(ConvertTest, ValuesThatAreSetAreJsonWhereTheyCanBe) {
  const std::string line =
      batch("p.txt", "one", {.set = {"a=1", "b=true", "c={\"x\":\n[1]}", "d=yes", "e=", "f=\"1\"", "g=x=y"}});
  EXPECT_NE(line.find(R"("model":"m","a":1,"b":true,"c":{"x": [1]},"d":"yes","e":"","f":"1","g":"x=y","messages")"),
            std::string::npos)
      << line;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(ConvertTest, ATemplateMayStandInAFile) {
  const std::string file = folder.write("t.txt", "Line\n{text}!\n");
  EXPECT_NE(batch("p.txt", "one", {.template_file = file}).find(R"("content":"Line\none!")"), std::string::npos);
  folder.write("t.txt", "\xE9");
  EXPECT_EQ(batch("q.txt", "one", {.template_file = file}), "t.txt is not UTF-8");
}

TEST_F(ConvertTest, WhatCannotBecomeABatchIsToldByRowAndColumn) {
  const std::string rows = "id,text\n1,a\n\n2,b\n1,c\n";
  EXPECT_EQ(batch("p.csv", rows, {.prompt = "{text}", .id = "id"}), "p.csv row 5: id is \"1\" in row 2 too");
  EXPECT_EQ(batch("p.csv", "id,text\n,a\n", {.prompt = "{text}", .id = "id"}), "p.csv row 2: there is no id");
  EXPECT_EQ(
      batch("p.csv", rows, {.prompt = "{txt}"}),
      "p.csv has no column txt; it has: id, text. In a template a brace of the text itself is written twice: {{ or }}");
  EXPECT_EQ(batch("p.csv", rows, {}),
            "p.csv has the columns id, text: --prompt says what is asked, such as --prompt "
            "\"Translate to French: {text}\"");
  EXPECT_EQ(batch("p.jsonl", "{\"prompt\":\"a\"}\n{\"x\":1}\n", {}), "p.jsonl row 2: there is no prompt");
  EXPECT_EQ(batch("p.csv", "text\n", {}), "p.csv has no row with a prompt");
  EXPECT_EQ(batch("p.txt", "a", {.set = {"stream=true"}}),
            "p.txt row 1: Chat Completions: Streaming is not supported in the Batch API.");
  EXPECT_EQ(batch("p.txt", "a", {.set = {"model=x"}}), "--set model=x: model stands in the body already");
  EXPECT_EQ(batch("p.txt", "a", {.set = {"n=1", "n=2"}}), "--set n=2: n stands in the body already");
  EXPECT_EQ(batch("p.txt", "a", {.set = {"n"}}), "--set n: it wants NAME=VALUE, such as temperature=0");
  EXPECT_EQ(batch("p.txt", "a", {.endpoint = "/v1/embeddings", .system = "s"}),
            "lines for /v1/embeddings have no system prompt");
  EXPECT_EQ(batch("p.txt", "a", {.endpoint = "/v1/images"}),
            "there is no endpoint /v1/images; there are: /v1/chat/completions, /v1/completions, /v1/embeddings, "
            "/v1/responses");
}

TEST_F(ConvertTest, AnswersBecomeATable) {
  write_answers("answers.jsonl", {"x", "y"}, "\"{}\\n=1, \\\"q\\\"\"");
  EXPECT_EQ(table("out.csv"),
            "custom_id,answer,error,finish_reason,input_tokens,output_tokens\n"
            "x,\"x\n=1, \"\"q\"\"\",,stop,3,1\ny,\"y\n=1, \"\"q\"\"\",,stop,3,1\n");
  folder.write("answers.errors.jsonl", error_line("z"));
  EXPECT_EQ(table("out.jsonl").substr(table("out.jsonl").find("{\"custom_id\":\"z")),
            R"x({"custom_id":"z","answer":null,"error":"E-z (c)","finish_reason":null,"input_tokens":null,)x"
            "\"output_tokens\":null}\n")
      << "the errors beside the answers are taken too";
  EXPECT_EQ(counts.answers, 2);
  EXPECT_EQ(counts.errors, 1);
}

TEST_F(ConvertTest, AnswersOfABatchComeInTheOrderOfItsFile) {
  const auto line = [](int index, const char* rest) {
    return fmt::format(R"({{"id":"batch_req_00{:08x}","custom_id":"r{}",{}}})", index, index, rest) + "\n";
  };
  const char* good = R"("response":{"status_code":200,"body":{"data":[{"embedding":[0.5, -1]}]}},"error":null)";
  const char* bad = R"("response":{"status_code":400,"body":{"error":{"message":"no"}}},"error":null)";
  folder.write("answers.jsonl", line(0, good) + line(2, good));
  const std::string errors = folder.write("failed", line(1, bad) + line(3, bad));
  EXPECT_EQ(table("out.csv", {.errors = errors}),
            "custom_id,answer,error,finish_reason,input_tokens,output_tokens\n"
            "r0,\"[0.5, -1]\",,,0,0\nr1,,no,,,\nr2,\"[0.5, -1]\",,,0,0\nr3,,no,,,\n");
  EXPECT_EQ(table("out.jsonl").substr(0, 41), R"({"custom_id":"r0","answer":[0.5, -1],"err)") << "a vector is JSON";
}

TEST_F(ConvertTest, RowsAreJoinedWithTheirAnswersInWhateverOrder) {
  const std::string rows = folder.write("p.csv", "id;text;answer\n1;a;x\n2;\"b;\";y\n3;c;z\n4;d;w\n");
  const std::string expected =
      "id;text;answer;model_answer;error;finish_reason;input_tokens;output_tokens\n"
      "1;a;x;A-1;;stop;3;1\n2;\"b;\";y;;E-2 (c);;;\n3;c;z;;there is no answer to this row;;;\n4;d;w;A-4;;stop;3;1\n";
  folder.write("answers.errors.jsonl", error_line("2"));
  for (const auto& order : {std::vector<std::string>{"1", "4", "9"}, {"9", "4", "1"}, {"4", "9", "1"}}) {
    write_answers("answers.jsonl", order);
    EXPECT_EQ(table("out.csv", {.join = rows, .id = "id"}), expected) << order.front();
    EXPECT_EQ(counts.unknown, 1);
    EXPECT_EQ(counts.errors, 2);
  }
}

TEST_F(ConvertTest, RowsWithoutANameAreJoinedByTheirNumber) {
  const std::string rows = folder.write("p.csv", "text\na\n\nb\n");
  write_answers("answers.jsonl", {"row-2", "row-4"});
  EXPECT_EQ(table("out.jsonl", {.join = rows}),
            R"({"text":"a","answer":"A-row-2","error":null,"finish_reason":"stop","input_tokens":3,"output_tokens":1})"
            "\n"
            R"({"text":"b","answer":"A-row-4","error":null,"finish_reason":"stop","input_tokens":3,"output_tokens":1})"
            "\n");
}

TEST_F(ConvertTest, ObjectsKeepTheirValuesAndBecomeOneSetOfColumns) {
  const std::string rows = folder.write("p.jsonl", "{\"n\": 1.50}\n{\"s\":\"x\\u00e4\",\"n\":null}\n");
  write_answers("answers.jsonl", {"row-1", "row-2"});
  EXPECT_EQ(table("out.csv", {.join = rows}),
            "n,s,answer,error,finish_reason,input_tokens,output_tokens\n"
            "1.50,,A-row-1,,stop,3,1\n,xä,A-row-2,,stop,3,1\n");
  EXPECT_EQ(table("out.jsonl", {.join = rows}).substr(0, 29), R"({"n":1.50,"answer":"A-row-1",)");
}

TEST_F(ConvertTest, NoTextIsAFormulaInACsvForExcel) {
  for (const char* text : {"=1+1", "+a", "-a", "@a", "\\t=1", "-", "+"}) {
    write_answers("answers.jsonl", {"x"}, fmt::format("\"{}\"", text));
    const std::string plain = table("out.csv"), excel = table("excel.csv", {.excel = true});
    std::string guarded = plain;
    guarded.insert(guarded.find("\nx,") + 3, 1, '\'');
    EXPECT_EQ(excel, "\xEF\xBB\xBF" + guarded);
  }
  for (const char* text : {"-1", "+2.5", "-1e-3", "a=1", "", "'="}) {
    write_answers("answers.jsonl", {"x"}, fmt::format("\"{}\"", text));
    EXPECT_EQ(table("excel.csv", {.excel = true}), "\xEF\xBB\xBF" + table("out.csv")) << text;
  }
}

TEST_F(ConvertTest, WhatAreNoAnswersIsTold) {
  folder.write("answers.jsonl", "\n{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{}}\n");
  EXPECT_EQ(table("out.csv"), "answers.jsonl:2 is no answer of a batch; prompts become a batch with --model");
  write_answers("answers.jsonl", {"a"});
  EXPECT_EQ(table("out.txt"), "out.txt must end in .csv, .tsv or .jsonl, which says what is written");
  const std::string rows = folder.write("p.csv", "id,text\n1,a\n");
  EXPECT_EQ(table("out.csv", {.join = rows}),
            "no answer in answers.jsonl is one to a row of p.csv: was the batch made with --id?");
  EXPECT_EQ(table("out.csv", {.join = rows, .id = "id"}),
            "no answer in answers.jsonl is one to a row of p.csv: is id the column that the batch was made with?");
}

}  // namespace
}  // namespace penstock
