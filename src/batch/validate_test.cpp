#include "batch/validate.h"

#include <gtest/gtest.h>

#include "model/wire.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

ValidationRules rules(std::int64_t lines_max = 50'000) {
  return {.endpoint = kChat, .lines_max = lines_max, .models = {}};
}

Validated validate_in_chunks(const std::string& input, ValidationRules the_rules, std::size_t size) {
  Validator validator(std::move(the_rules));
  for (std::size_t at = 0; at < input.size(); at += size) {
    // Exactly as many bytes as there are, so that a sanitizer sees a read past them.
    const std::vector<char> chunk(input.begin() + static_cast<std::ptrdiff_t>(at),
                                  input.begin() + static_cast<std::ptrdiff_t>(std::min(at + size, input.size())));
    validator.feed({chunk.data(), chunk.size()});
  }
  return validator.finish();
}

std::string told(const Validated& v) {
  std::string text = fmt::format("{}, model {}, {} errors\n", v.endpoint, v.model, v.error_total);
  for (const LineError& e : v.errors) {
    text += fmt::format("line {}: {} {}: {}\n", e.line.value_or(0), e.code, e.param.value_or("-"), e.message);
  }
  for (const PlanEntry& e : v.entries) text += fmt::format("{} at {} of {}\n", e.index, e.offset, e.length);
  return text;
}

Validated check(const std::string& input, ValidationRules the_rules = rules()) {
  return validate_in_chunks(input, std::move(the_rules), input.size() + 1);
}

// "code param @line" of each.
std::vector<std::string> faults(const Validated& v) {
  std::vector<std::string> all;
  for (const LineError& e : v.errors) {
    all.push_back(fmt::format("{} {} @{}", e.code, e.param.value_or("-"), e.line ? std::to_string(*e.line) : "file"));
  }
  return all;
}
using Faults = std::vector<std::string>;

std::string with_id(const std::string& id) {
  return fmt::format(
             R"({{"custom_id":"{}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","messages":[]}}}})",
             id) +
         "\n";
}

// Without its newline.
std::string bare_line(int i) {
  std::string line = input_line(i);
  line.pop_back();
  return line;
}

const std::string kBom = "\xEF\xBB\xBF";

TEST(ValidateTest, AnyCutOfTheInputGivesTheSameResult) {
  const std::string inputs[] = {
      "",
      "\n",
      kBom,
      input_lines(0, 20),
      kBom + input_lines(0, 5),
      "\n \r\n" + input_line(0) + "\n\t\n" + input_line(1) + "  ",
      input_line(0) + "no json\n" + input_line(1) + "\n" + input_line(0) + "{}",
      input_lines(0, 3) + input_line(3, "other") + std::string("\0\n", 2),
      bare_line(0) + "\r\n" + bare_line(1),
      input_lines(0, 10) + with_id(std::string(3'000, 'x')) + input_lines(10, 20),
  };
  for (const std::string& input : inputs) {
    const std::string whole = told(check(input));
    for (const std::size_t size : {1, 2, 3, 7, 63, 64, 65, 100, 1'000}) {
      EXPECT_EQ(told(validate_in_chunks(input, rules(), size)), whole) << size << " of " << input.substr(0, 300);
    }
  }
}

TEST(ValidateTest, ThePlanCutsTheExactBytes) {
  const std::string lines[] = {bare_line(0), fmt::format(" {}\t\r", bare_line(1)), bare_line(2)};
  for (const std::string& head : {std::string(), kBom, std::string("\r\n \n")}) {
    const std::string input = head + lines[0] + "\n\n" + lines[1] + "\n   \n" + lines[2];
    const Validated checked = check(input);
    EXPECT_EQ(checked.error_total, 0);
    EXPECT_EQ(checked.model, "m");
    ASSERT_EQ(checked.entries.size(), 3u) << told(checked);
    for (std::uint32_t i = 0; i < 3; ++i) {
      EXPECT_EQ(checked.entries[i].index, i);
      EXPECT_EQ(input.substr(checked.entries[i].offset, checked.entries[i].length), lines[i]);
    }
  }
}

TEST(ValidateTest, ThePlanBringsTogetherWhatBeginsAlike) {
  const std::string document = std::string(200, 'd');
  std::string input;
  for (int i = 0; i < 6; ++i) {
    const std::string prompt =
        i % 2 == 0 ? document : fmt::format("no {}", std::string(200, static_cast<char>('0' + i)));
    input +=
        fmt::format(R"({{"custom_id":"{}","method":"POST","url":"/v1/chat/completions","body":{{"model":"m","seed":{},)"
                    R"("messages":[{{"role":"user","content":"{} question {}"}}]}}}})"
                    "\n",
                    i, i, prompt, i);
  }
  const Validated checked = check(input);
  std::vector<std::uint32_t> indices;
  for (const PlanEntry& entry : checked.entries) {
    indices.push_back(entry.index);
    EXPECT_NE(input.substr(entry.offset, entry.length).find(fmt::format(R"("custom_id":"{}")", entry.index)),
              std::string::npos);
  }
  EXPECT_EQ(indices, (std::vector<std::uint32_t>{0, 2, 4, 1, 3, 5}));
}

TEST(ValidateTest, LineNumbersArePhysical) {
  const Validated checked =
      check(kBom + "\n" + "bad\n" + "\r\n" + input_line(0) + " \t\n" + "{}\n\n\n" + input_line(0));
  EXPECT_EQ(faults(checked), (Faults{"invalid_json_line - @2", "missing_required_parameter custom_id @6",
                                     "duplicate_custom_id custom_id @9"}));
  EXPECT_EQ(checked.error_total, 3);
  EXPECT_TRUE(checked.entries.empty());
}

TEST(ValidateTest, AByteOrderMarkIsSkippedInFrontAlone) {
  EXPECT_EQ(check(kBom + input_line(0)).error_total, 0);
  EXPECT_EQ(faults(check(input_line(0) + kBom + input_line(1))), Faults{"invalid_json_line - @2"});
  EXPECT_EQ(faults(check(kBom + kBom + input_line(0))), Faults{"invalid_json_line - @1"});
}

TEST(ValidateTest, OnlyLineFeedsEndLines) {
  EXPECT_EQ(check("\n\n" + with_id("a\xE2\x80\xA8"
                                   "b\xE2\x80\xA9"
                                   "c\xC2\x85"))
                .entries.size(),
            1u);
  const std::string line = bare_line(0);
  EXPECT_EQ(faults(check(line + "\r" + line)), Faults{"invalid_json_line - @1"});
}

TEST(ValidateTest, ANulIsNeverBlank) {
  EXPECT_EQ(faults(check(input_line(0) + std::string("\0\n", 2))), Faults{"invalid_json_line - @2"});
  EXPECT_EQ(faults(check(input_line(0) + std::string("\0", 1))), Faults{"invalid_json_line - @2"});
}

TEST(ValidateTest, AFileWithoutARequestIsEmpty) {
  for (const std::string& input : {std::string(), std::string("\n"), kBom, std::string(" \t\r\n\r\n  "), kBom + "\n"}) {
    const Validated checked = check(input);
    EXPECT_EQ(faults(checked), Faults{"empty_file - @file"}) << input;
    EXPECT_EQ(checked.errors[0].message,
              "The input file is empty. Please ensure that the batch contains at least one request.");
  }
}

TEST(ValidateTest, DuplicatesAreFoundHoweverFarApart) {
  const Validated checked = check(input_lines(0, 20'000) + input_line(0) + with_id("r\\u0031"));
  EXPECT_EQ(faults(checked), (Faults{"duplicate_custom_id custom_id @20001", "duplicate_custom_id custom_id @20002"}));
  EXPECT_EQ(checked.errors[0].message,
            "The custom_id 'r0' for this request is a duplicate of another request. The custom_id parameter must be "
            "unique for each request in a batch.");
  const std::string prefix(5'000, 'p');
  EXPECT_EQ(check(with_id(prefix + "1") + with_id(prefix + "2")).error_total, 0);
}

TEST(ValidateTest, TheFirst100ErrorsAreKeptAndAllAreCounted) {
  std::string input;
  for (int i = 0; i < 10'000; ++i) input += "bad\n";
  const Validated checked = check(input);
  EXPECT_EQ(checked.error_total, 10'000);
  ASSERT_EQ(checked.errors.size(), 100u);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(checked.errors[i].line, static_cast<std::int64_t>(i + 1));
}

TEST(ValidateTest, TooManyRequestsAreOneErrorWithTheLimit) {
  EXPECT_EQ(check(input_lines(0, 3) + "\n\n", rules(3)).entries.size(), 3u);
  const Validated checked = check(input_lines(0, 5), rules(3));
  EXPECT_EQ(faults(checked), Faults{"too_many_tasks - @file"});
  EXPECT_NE(checked.errors[0].message.find("3"), std::string::npos);
  EXPECT_NE(checked.errors[0].message.find("5"), std::string::npos);
  EXPECT_TRUE(checked.entries.empty());
  EXPECT_EQ(check(input_lines(0, 5), rules(0)).entries.size(), 5u);  // no limit
}

std::string embedding(const std::string& id, const std::string& input, const std::string& url = "/v1/embeddings") {
  return fmt::format(R"({{"custom_id":"{}","method":"POST","url":"{}","body":{{"model":"m","prompt":{},"input":{}}}}})",
                     id, url, input, input) +
         "\n";
}

// `count` times the same element.
std::string json_list(int count, const std::string& element) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i > 0 ? "," : "") + element;
  return "[" + list + "]";
}

TEST(ValidateTest, InputsToEmbedHaveTheLimitOfRequests) {
  const auto total = [](const std::string& input, std::int64_t max) {
    return faults(check(input, {.endpoint = "/v1/embeddings", .lines_max = max, .models = {}}));
  };
  const std::string most = embedding("a", json_list(49'999, R"("x")"));
  EXPECT_EQ(total(most + embedding("b", R"("x")"), 50'000), Faults{});
  const std::string two = embedding("b", json_list(2, R"("x")"));
  EXPECT_EQ(total(most + two, 50'000), Faults{"too_many_tasks - @file"});
  EXPECT_EQ(total(most + two, 0), Faults{});  // no limit
  const Validated checked = check(most + two, {.endpoint = "/v1/embeddings", .models = {}});
  EXPECT_EQ(checked.errors[0].message,
            "The requests of the input file have 50001 inputs; a batch may have at most 50000.");
  EXPECT_TRUE(checked.entries.empty());

  const std::string tokens = json_list(60'000, "7");
  EXPECT_EQ(total(embedding("a", tokens) + embedding("b", "[[1,2],[3]]"), 3), Faults{});
  EXPECT_EQ(total(embedding("a", tokens) + embedding("b", "[[1,2],[3]]"), 2), Faults{"too_many_tasks - @file"});
  EXPECT_EQ(total(embedding("a", "[]") + two, 2), Faults{});  // the engine refuses the first
  EXPECT_EQ(total(two + "bad\n" + two, 3),
            (Faults{"invalid_json_line - @2", "duplicate_custom_id custom_id @3", "too_many_tasks - @file"}));
  for (const char* url : {"/v1/completions", "/v1/responses"}) {
    EXPECT_EQ(
        check(embedding("a", json_list(9, R"("x")"), url), {.endpoint = url, .lines_max = 2, .models = {}}).error_total,
        0);
  }
}

TEST(ValidateTest, OneModelIsAllowedAndItMustBeServed) {
  const Validated mixed = check(input_line(0, "a") + input_line(1, "b") + input_line(2, "a"));
  EXPECT_EQ(faults(mixed), Faults{"mismatched_model body.model @2"});
  EXPECT_NE(mixed.errors[0].message.find("The model 'b' for this request does not match the rest of the batch."),
            std::string::npos);

  ValidationRules served = rules();
  served.models = {"m", "n"};
  EXPECT_EQ(check(input_lines(0, 2), served).model, "m");
  const Validated unknown = check(input_lines(0, 2, "x"), served);
  EXPECT_EQ(faults(unknown), (Faults{"model_not_found body.model @1", "model_not_found body.model @2"}));
  EXPECT_EQ(unknown.errors[0].message, "The provided model 'x' is not supported by the Batch API.");
  EXPECT_EQ(check(input_lines(0, 2, "x"), rules()).error_total, 0);  // nobody knows what is served
}

TEST(ValidateTest, ALineThatIsTooLongIsAFaultOfItsOwn) {
  const std::string huge(kLineSizeMax + 1, 'x');
  const std::string input = input_line(0) + with_id(huge) + "bad\n" + input_line(0);
  for (const std::size_t size : {std::size_t{1} << 20, std::size_t{77'777'777}, input.size()}) {
    const Validated checked = validate_in_chunks(input, rules(), size);
    EXPECT_EQ(faults(checked),
              (Faults{"invalid_request - @2", "invalid_json_line - @3", "duplicate_custom_id custom_id @4"}))
        << size;
  }
  EXPECT_EQ(faults(validate_in_chunks(input_line(0) + huge, rules(), 1 << 20)), Faults{"invalid_request - @2"});
}

TEST(ValidateTest, ErrorsStayTextAndOfBoundedSizeWhateverTheLinesSay) {
  std::string eacute;
  for (int i = 0; i < 300; ++i) eacute += "\xC3\xA9";
  std::string input;
  for (int shift = 0; shift < 2; ++shift)
    input += with_id(std::string(shift, 'x') + eacute) + with_id(std::string(shift, 'x') + eacute);
  const std::string model(1'000'000, 'n');
  for (int i = 0; i < 20; ++i) input += input_line(i, fmt::format("{}{}", model, i));
  const Validated checked = check(input);
  EXPECT_EQ(checked.error_total, 22);
  const std::string stored = wire::errors_json(checked.errors);
  EXPECT_LT(stored.size(), 100'000u);
  EXPECT_EQ(wire::parse_errors(stored).size(), 22u);  // throws when it is not UTF-8
}

TEST(ValidateTest, ReadsABlobWhole) {
  TempDir folder;
  const auto blobs = open_local_blobs(folder.path());
  const std::string input = input_lines(0, 12'000);  // more than one read
  ASSERT_GT(input.size(), std::size_t{1} << 20);
  const auto writer = blobs->create("in");
  writer->write(input);
  writer->commit();
  EXPECT_EQ(told(validate(*blobs->open("in"), rules())), told(check(input)));
}

TEST(ValidateTest, AnUnknownEndpointIsThatOfTheFirstLine) {
  const std::string embeddings =
      R"({"custom_id":"e","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}})"
      "\n";
  const Validated good = check("\n" + input_lines(0, 2), {.endpoint = {}, .models = {}});
  EXPECT_EQ(good.endpoint, kChat);
  EXPECT_EQ(good.error_total, 0);
  EXPECT_EQ(check(embeddings, {.endpoint = {}, .models = {}}).endpoint, "/v1/embeddings");
  const Validated mixed = check(input_line(0) + embeddings, {.endpoint = {}, .models = {}});
  ASSERT_EQ(mixed.error_total, 1);
  EXPECT_EQ(mixed.errors[0].code, "invalid_url");
  EXPECT_EQ(mixed.errors[0].line, 2);
  const std::string elsewhere = R"({"custom_id":"e","method":"POST","url":"/v1/x","body":{"model":"m"}})";
  EXPECT_EQ(check(elsewhere, {.endpoint = {}, .models = {}}).errors.at(0).code, "invalid_url");
}

}  // namespace
}  // namespace penstock
