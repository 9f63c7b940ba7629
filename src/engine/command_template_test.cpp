#include "engine/command_template.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace penstock {
namespace {

const TemplateValues kValues = {{"model", "/m.gguf"}, {"name", "m"},  {"socket", "/s.sock"},     {"port", "81"},
                                {"context", "4096"},  {"slots", "8"}, {"total_context", "32768"}};

std::string line(const CommandOptions& options) {
  return fmt::format("{}", fmt::join(expand(command_template(options), kValues), " "));
}

TEST(CommandTemplateTest, BuiltInTemplatesAreTheProgramsOwnOptions) {
  EXPECT_EQ(line({.engine = "llama.cpp", .program = "/bin/llama-server", .args = {"--threads", "2"}}),
            "/bin/llama-server --model /m.gguf --alias m --host /s.sock --parallel 8 --ctx-size 32768 --no-kv-unified "
            "--cache-ram 0 --slot-save-path {slot_folder} --no-ui --metrics --threads 2");
  EXPECT_EQ(line({.engine = "llama.cpp", .program = "/bin/llama-server", .args = {"--embedding"}}),
            "/bin/llama-server --model /m.gguf --alias m --host /s.sock --parallel 8 --ctx-size 32768 --kv-unified "
            "--cache-ram 0 --slot-save-path {slot_folder} --no-ui --metrics --embedding");
  EXPECT_EQ(line({.engine = "vllm", .program = "", .args = {}}),
            "vllm serve /m.gguf --served-model-name m --host 127.0.0.1 --port 81");
  EXPECT_EQ(
      line({.engine = "vllm", .program = "", .has_context = true, .has_slots = true, .args = {"--enforce-eager"}}),
      "vllm serve /m.gguf --served-model-name m --host 127.0.0.1 --port 81 --max-model-len 4096 --max-num-seqs 8 "
      "--enforce-eager");
  EXPECT_EQ(line({.engine = "sglang", .program = "/venv/bin/python", .args = {}}),
            "/venv/bin/python -m sglang.launch_server --model-path /m.gguf --served-model-name m --host 127.0.0.1 "
            "--port 81 --enable-metrics");
  EXPECT_EQ(line({.engine = "sglang", .program = "", .has_context = true, .has_slots = true, .args = {}}),
            "python3 -m sglang.launch_server --model-path /m.gguf --served-model-name m --host 127.0.0.1 --port 81 "
            "--enable-metrics --context-length 4096 --max-running-requests 8");
}

TEST(CommandTemplateTest, OnlyWhatIsKnownIsFilledInAndEachWordStaysOne) {
  const struct {
    const char *word, *expected;
  } table[] = {
      {"{port}", "81"},
      {"--listen=127.0.0.1:{port}", "--listen=127.0.0.1:81"},
      {"{name}{name} {slots}", "mm 8"},
      {R"({"port": {port}, "a": {"b": 1}})", R"({"port": 81, "a": {"b": 1}})"},
      {"{{name}}", "{m}"},
      {"{nonsense}", "{nonsense}"},
      {"{port", "{port"},
      {"port}", "port}"},
      {"{}", "{}"},
      {"{", "{"},
      {"", ""},
  };
  for (const auto& [word, expected] : table) {
    EXPECT_EQ(expand({word}, kValues), std::vector<std::string>{expected}) << word;
  }
  // What is filled in is not looked at again.
  EXPECT_EQ(expand({"{name}"}, {{"name", "{port}"}, {"port", "81"}}), std::vector<std::string>{"{port}"});
}

}  // namespace
}  // namespace penstock
