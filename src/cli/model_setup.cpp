#include "cli/model_setup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace penstock {
namespace {

namespace fs = std::filesystem;

// The program as exec would find it; empty when it is nowhere.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    return ::access(name.c_str(), X_OK) == 0 ? fs::absolute(name).string() : "";
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    const auto colon = std::min(rest.find(':'), rest.size());
    const std::string candidate = fmt::format("{}/{}", rest.substr(0, colon), name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return "";
}

void set_up_program(ModelSetup& setup, const Config& config) {
  const ModelConfig& model = setup.config;
  if (model.engine == "command") {
    setup.command = model.command;
    setup.command.insert(setup.command.end(), model.args.begin(), model.args.end());
  } else {
    CommandOptions options{.engine = model.engine,
                           .program = model.program,
                           .has_context = setup.context > 0,
                           .has_slots = setup.slots > 0,
                           .args = model.args};
    if (model.engine == "llama.cpp") {
      if (options.program.empty()) options.program = config.llama_server;
      options.args.insert(options.args.begin(), config.llama_server_args.begin(), config.llama_server_args.end());
    }
    setup.command = command_template(options);
  }
  if (setup.slots == 0 && mentions(setup.command, "{slots}")) setup.slots = kCommandSlots;
  std::string& program = setup.command.front();
  const std::string found = find_program(program);
  if (!found.empty()) {
    program = found;
  } else if (model.engine == "llama.cpp" && model.program.empty()) {
    setup.faults.push_back(
        fmt::format("llama_server: there is no program '{}'; build one with scripts/llama.sh, or name yours with "
                    "--llama-server",
                    program));
  } else {
    setup.faults.push_back(fmt::format("models.{}: there is no program '{}'", model.name, program));
  }
}

// Only of llama.cpp do we know what it will take.
void set_up_memory(ModelSetup& setup, const Config& config) {
  const ModelConfig& model = setup.config;
  const auto fault = [&](const std::string& words) {
    setup.faults.push_back(fmt::format("models.{}: {}", model.name, words));
  };
  if (!fs::exists(model.path)) return fault(fmt::format("there is no file {}", model.path));
  auto header = read_gguf(model.path);
  if (!header) return fault(header.error().message);
  setup.gguf = std::move(*header);

  const auto device = config.devices.find(model.device);
  const bool is_cpu = device == config.devices.end();
  setup.memory = is_cpu ? memory_available() : std::optional(device->second);
  const Size size = choose_size(*setup.gguf, setup.context, setup.slots, setup.memory);
  const bool forced = setup.slots > 0;
  setup.context = size.context;
  setup.slots = size.slots;
  setup.need = size.need;
  setup.fits = size.fits;
  if (!size.fits) {
    const std::string words =
        fmt::format("it needs {} ({} of weights, {} for {} x {} tokens of context, {} to compute with), and {} has {}",
                    memory_text(size.need.total()), memory_text(size.need.weights), memory_text(size.need.kv_cache),
                    size.slots, size.context, memory_text(size.need.buffers),
                    is_cpu ? "the machine" : "device " + model.device, memory_text(*setup.memory));
    if (forced) {
      setup.advice.push_back(words + "; it is loaded because its slots are set");
    } else {
      fault(
          fmt::format("{}; take a smaller quantisation, set a smaller context, {}or set slots to load it all the same",
                      words, is_cpu ? fmt::format("tell the memory of its GPU in [devices.{}], ", model.device) : ""));
    }
  }
  if (is_cpu && setup.gguf->quantisation == "Q4_1") {
    setup.advice.emplace_back("Q4_1 is slow on CPUs; Q4_0, Q4_K_M and Q8_0 read prompts two to three times as fast");
  }
  if (!setup.gguf->has_chat_template) {
    setup.advice.emplace_back("it has no chat template, so llama-server puts chats into one that it may not know");
  }
  if (setup.gguf->context_length > 0 && setup.context > setup.gguf->context_length) {
    setup.advice.push_back(
        fmt::format("its context is {}, and it was trained for {}", setup.context, setup.gguf->context_length));
  }
}

}  // namespace

ModelSetup set_up(const ModelConfig& model, const Config& config) {
  ModelSetup setup;
  setup.config = model;
  setup.context = model.context ? model.context : config.context;
  setup.slots = model.slots ? model.slots : config.slots;
  if (model.engine == "llama.cpp") set_up_memory(setup, config);
  set_up_program(setup, config);
  return setup;
}

}  // namespace penstock
