#include "cli/model_config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cli/config.h"
#include "testing/fixtures.h"

namespace penstock {
namespace {

class ModelConfigTest : public testing::Test {
 protected:
  Config load(const std::string& toml) { return load_config({}, folder.write("given.toml", toml)); }
  ModelConfig only(const std::string& toml) {
    const Config config = load(toml);
    return config.models.size() == 1 ? config.models.front() : ModelConfig{.name = "none or several", .path = ""};
  }
  std::string refusal(const std::string& toml) {
    try {
      load(toml);
    } catch (const UsageError& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
      return e.what();
    }
    return "accepted";
  }

  TempDir folder;
};

TEST_F(ModelConfigTest, AStringIsTheFileOfALlamaServer) {
  const ModelConfig model = only("[models]\na = \"models/a.gguf\"\n");
  EXPECT_EQ(model.name, "a");
  EXPECT_EQ(model.path, folder / "models/a.gguf");
  EXPECT_EQ(model.engine, "llama.cpp");
  EXPECT_EQ(model.device, "default");
  EXPECT_EQ(model.context, 0);
  EXPECT_EQ(model.slots, 0);
}

TEST_F(ModelConfigTest, ATableSaysTheRest) {
  const ModelConfig model = only(
      "[models.\"some/model\"]\npath = \"Qwen/Qwen3-8B\"\nengine = \"vllm\"\nprogram = \"venv/bin/vllm\"\n"
      "args = [\"--enforce-eager\", \"1\"]\ndevice = \"gpu0\"\ncontext = 8192\nslots = 64\n"
      "env = { CUDA_VISIBLE_DEVICES = \"0\" }\n");
  EXPECT_EQ(model.name, "some/model");
  EXPECT_EQ(model.path, "Qwen/Qwen3-8B") << "a name, since there is no such folder";
  EXPECT_EQ(model.engine, "vllm");
  EXPECT_EQ(model.program, folder / "venv/bin/vllm");
  EXPECT_EQ(model.args, (std::vector<std::string>{"--enforce-eager", "1"}));
  EXPECT_EQ(model.device, "gpu0");
  EXPECT_EQ(model.context, 8192);
  EXPECT_EQ(model.slots, 64);
  EXPECT_EQ(model.env, (std::map<std::string, std::string>{{"CUDA_VISIBLE_DEVICES", "0"}}));
}

TEST_F(ModelConfigTest, PathsAreThoseFromTheFilesFolder) {
  folder.write("weights", "");
  EXPECT_EQ(only("[models.a]\npath = \"weights\"\nengine = \"sglang\"\n").path, folder / "weights");
  EXPECT_EQ(only("[models.a]\ncommand = [\"bin/serve\", \"{port}\"]\nengine = \"command\"\n").command.front(),
            folder / "bin/serve");
  EXPECT_EQ(only("[models.a]\ncommand = [\"serve\", \"{port}\"]\nengine = \"command\"\n").command.front(), "serve");
  EXPECT_EQ(only("[models.a]\npath = \"a.gguf\"\nprogram = \"my-server\"\n").program, "my-server");
}

TEST_F(ModelConfigTest, ModelsAreInTheOrderOfTheFile) {
  const Config config = load("[models]\nz = \"z.gguf\"\na = \"a.gguf\"\n[models.m]\npath = \"m.gguf\"\n");
  std::string names;
  for (const ModelConfig& model : config.models) names += model.name;
  EXPECT_EQ(names, "zam");
}

TEST_F(ModelConfigTest, ADeviceHasItsMemory) {
  const Config config = load("[devices]\ngpu0.memory = \"24GB\"\n[devices.\"the other\"]\nmemory = \"0.5TB\"\n");
  EXPECT_EQ(config.devices, (std::map<std::string, std::int64_t>{{"gpu0", 24LL << 30}, {"the other", 1LL << 39}}));
}

TEST_F(ModelConfigTest, ARefusalNamesTheKeyAndWhatIsAllowed) {
  const struct {
    std::string toml;
    std::vector<std::string> words;
  } table[] = {
      {"[models]\na = 1\n", {"given.toml", "models.a", "GGUF"}},
      {"[models.a]\n", {"models.a.path"}},
      {"[models.a]\npath = \"\"\n", {"models.a.path", "string"}},
      {"[models.a]\npath = \"x\"\nengine = \"ollama\"\n", {"models.a.engine", "llama.cpp, vllm, sglang or command"}},
      {"[models.a]\npath = \"x\"\nslotz = 1\n", {"models.a.slotz", "slots"}},
      {"[models.a]\npath = \"x\"\nslots = -1\n", {"models.a.slots", "1 to 100000"}},
      {"[models.a]\npath = \"x\"\ncontext = 63\n", {"models.a.context", "64 to"}},
      {"[models.a]\npath = \"x\"\nargs = \"-t 2\"\n", {"models.a.args", "list"}},
      {"[models.a]\npath = \"x\"\nargs = [2]\n", {"models.a.args", "strings"}},
      {"[models.a]\npath = \"x\"\nenv = { A = 1 }\n", {"models.a.env.A", "string"}},
      {"[models.a]\nengine = \"command\"\n", {"models.a.command"}},
      {"[models.a]\nengine = \"command\"\ncommand = [\"serve\"]\n", {"models.a.command", "{port}", "{socket}"}},
      {"[models.a]\npath = \"x\"\ncommand = [\"serve\", \"{port}\"]\n", {"models.a.engine", "command"}},
      {"devices = 1\n", {"devices", "table"}},
      {"[devices]\ngpu0 = \"24GB\"\n", {"devices.gpu0", "memory"}},
      {"[devices.gpu0]\nmemory = \"24 apples\"\n", {"devices.gpu0.memory", "24GB"}},
      {"[devices.gpu0]\nmemory = \"-1GB\"\n", {"devices.gpu0.memory", "24GB"}},
      {"[devices.gpu0]\nmemories = \"1GB\"\n", {"devices.gpu0.memories", "memory"}},
  };
  for (const auto& [toml, words] : table) {
    for (const std::string& word : words) {
      EXPECT_NE(refusal(toml).find(word), std::string::npos) << toml << refusal(toml);
    }
  }
}

TEST_F(ModelConfigTest, WhatIsPrintedIsReadBackButForTheEnvironment) {
  const std::string toml =
      "[models.z]\npath = \"/z.gguf\"\nslots = 2\ncontext = 100\ndevice = \"gpu0\"\n"
      "[models.c]\nengine = \"command\"\ncommand = [\"/serve\", \"{\\\"port\\\": {port}}\"]\nargs = [\"-v\"]\n"
      "env = { TOKEN = \"secret\" }\n[devices.gpu0]\nmemory = \"24GB\"\n";
  const std::string text = print_config({}, folder.write("given.toml", toml));
  EXPECT_EQ(text.find("secret"), std::string::npos) << text;
  EXPECT_NE(text.find("TOKEN"), std::string::npos) << text;
  const Config again = load(text);
  ASSERT_EQ(again.models.size(), 2u);
  EXPECT_EQ(print_model(again.models[0]),
            "\"z\" = { path = \"/z.gguf\", device = \"gpu0\", context = 100, slots = 2 }");
  EXPECT_EQ(again.models[1].command, (CommandTemplate{"/serve", "{\"port\": {port}}"}));
  EXPECT_EQ(again.models[1].args, std::vector<std::string>{"-v"});
  EXPECT_EQ(again.devices.at("gpu0"), 24LL << 30);
}

}  // namespace
}  // namespace penstock
