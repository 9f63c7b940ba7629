#include "engine/command_template.h"

#include <fmt/core.h>

#include <algorithm>

namespace penstock {

std::string default_program(std::string_view engine) {
  if (engine == "vllm") return "vllm";
  if (engine == "sglang") return "python3";
  return "llama-server";
}

CommandTemplate command_template(const CommandOptions& options) {
  CommandTemplate command = {options.program.empty() ? default_program(options.engine) : options.program};
  const auto add = [&](std::initializer_list<const char*> more) {
    command.insert(command.end(), more.begin(), more.end());
  };
  if (options.engine == "vllm") {
    // It can listen on a unix socket only since 0.9.
    add({"serve", "{model}", "--served-model-name", "{name}", "--host", "127.0.0.1", "--port", "{port}"});
    if (options.has_context) add({"--max-model-len", "{context}"});
    if (options.has_slots) add({"--max-num-seqs", "{slots}"});
  } else if (options.engine == "sglang") {
    add({"-m", "sglang.launch_server", "--model-path", "{model}", "--served-model-name", "{name}", "--host",
         "127.0.0.1", "--port", "{port}", "--enable-metrics"});
    if (options.has_context) add({"--context-length", "{context}"});
    if (options.has_slots) add({"--max-running-requests", "{slots}"});
  } else {
    // Separate key-value streams a slot stay fast with many slots, but texts of different length that are embedded
    // together get wrong vectors with them. No cache of prompts in host memory keeps memory flat.
    const bool embeds = std::any_of(options.args.begin(), options.args.end(),
                                    [](const auto& word) { return word == "--embedding" || word == "--embeddings"; });
    add({"--model", "{model}", "--alias", "{name}", "--host", "{socket}", "--parallel", "{slots}", "--ctx-size",
         "{total_context}", embeds ? "--kv-unified" : "--no-kv-unified", "--cache-ram", "0", "--slot-save-path",
         "{slot_folder}", "--no-ui", "--metrics"});
  }
  command.insert(command.end(), options.args.begin(), options.args.end());
  return command;
}

bool mentions(const CommandTemplate& command, std::string_view placeholder) {
  return std::any_of(command.begin(), command.end(),
                     [&](const std::string& word) { return word.find(placeholder) != std::string::npos; });
}

std::vector<std::string> expand(const CommandTemplate& command, const TemplateValues& values) {
  std::vector<std::string> argv;
  for (std::string_view word : command) {
    std::string& out = argv.emplace_back();
    while (!word.empty()) {
      const auto end = word.front() == '{' ? word.find('}') : std::string_view::npos;
      const auto value = end == std::string_view::npos ? values.end() : values.find(word.substr(1, end - 1));
      if (value != values.end()) {
        out += value->second;
        word.remove_prefix(end + 1);
      } else {
        out += word.front();
        word.remove_prefix(1);
      }
    }
  }
  return argv;
}

}  // namespace penstock
