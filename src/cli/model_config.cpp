#include "cli/model_config.h"

#include <fmt/format.h>

#include <charconv>

#include "base/error.h"
#include "cli/toml_values.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kContextMin = 64, kContextMax = 10'000'000, kSlotsMax = 100'000;

int number_of(const toml::node& node, const std::string& key, std::int64_t min, std::int64_t max) {
  const auto* number = node.as_integer();
  if (!number || (number->get() != 0 && (number->get() < min || number->get() > max))) {
    refuse(key, fmt::format("a whole number from {} to {}, or 0 for what suits the model and the memory", min, max));
  }
  return static_cast<int>(number->get());
}

void check(const ModelConfig& model, const std::string& key) {
  const bool is_command = model.engine == "command";
  if (is_command) {
    if (model.command.empty()) refuse(key + ".command", "the command line, as a list of strings");
    if (!mentions(model.command, "{socket}") && !mentions(model.command, "{port}")) {
      refuse(key + ".command", "{port} or {socket} in it, where the program is to listen");
    }
    if (!model.program.empty()) refuse(key + ".program", "none beside a command");
  } else {
    if (model.path.empty()) refuse(key + ".path", "the path of the model");
    if (!model.command.empty()) refuse(key + ".engine", "\"command\" beside a command");
  }
}

}  // namespace

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string quote_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const auto& text : texts) out += fmt::format("{}{}", out.empty() ? "" : ", ", quote(text));
  return fmt::format("[{}]", out);
}

std::string from_folder(const fs::path& folder, const std::string& path) {
  return (folder / path).lexically_normal().string();
}

std::string program_from_folder(const fs::path& folder, const std::string& program) {
  return program.find('/') == std::string::npos ? program : from_folder(folder, program);
}

ModelConfig parse_model(const std::string& name, const toml::node& node, const fs::path& folder) {
  const std::string key = "models." + name;
  ModelConfig model;
  model.name = name;
  if (name.empty()) refuse("models", "a name for each model");
  if (const auto* text = node.as_string()) {
    model.path = from_folder(folder, text->get());
    return model;
  }
  const auto* table = node.as_table();
  if (!table) refuse(key, "the path of a GGUF file, or a table");
  for (const auto& [toml_name, value] : *table) {
    const std::string_view setting = toml_name.str();
    const std::string its_key = fmt::format("{}.{}", key, setting);
    if (setting == "path") {
      model.path = text_of(value, its_key);
    } else if (setting == "engine") {
      model.engine = text_of(value, its_key);
      if (model.engine != "llama.cpp" && model.engine != "vllm" && model.engine != "sglang" &&
          model.engine != "command") {
        refuse(its_key, "llama.cpp, vllm, sglang or command");
      }
    } else if (setting == "program") {
      model.program = program_from_folder(folder, text_of(value, its_key));
    } else if (setting == "command") {
      model.command = list_of(value, its_key);
      if (!model.command.empty()) model.command.front() = program_from_folder(folder, model.command.front());
    } else if (setting == "args") {
      model.args = list_of(value, its_key);
    } else if (setting == "env") {
      model.env = table_of(value, its_key);
    } else if (setting == "device") {
      model.device = text_of(value, its_key);
    } else if (setting == "context") {
      model.context = number_of(value, its_key, kContextMin, kContextMax);
    } else if (setting == "slots") {
      model.slots = number_of(value, its_key, 1, kSlotsMax);
    } else {
      throw UsageError(fmt::format(
          "{}: unknown key; known are path, engine, program, command, args, env, device, context, slots", its_key));
    }
  }
  // Others take names as well as paths.
  const bool is_file = model.engine == "llama.cpp" || fs::exists(folder / model.path);
  if (!model.path.empty() && is_file) model.path = from_folder(folder, model.path);
  check(model, key);
  return model;
}

std::string print_model(const ModelConfig& model) {
  const ModelConfig plain;
  std::vector<std::string> out, hidden;
  const auto add = [&](const char* key, const std::string& value) {
    out.push_back(fmt::format("{} = {}", key, value));
  };
  if (!model.path.empty()) add("path", quote(model.path));
  if (model.engine != plain.engine) add("engine", quote(model.engine));
  if (!model.program.empty()) add("program", quote(model.program));
  if (!model.command.empty()) add("command", quote_list(model.command));
  if (!model.args.empty()) add("args", quote_list(model.args));
  if (model.device != plain.device) add("device", quote(model.device));
  if (model.context) add("context", std::to_string(model.context));
  if (model.slots) add("slots", std::to_string(model.slots));
  for (const auto& [name, value] : model.env) hidden.push_back(name);
  const bool is_path = out.size() == 1 && !model.path.empty();
  return fmt::format("{} = {}{}", quote(model.name),
                     is_path ? quote(model.path) : fmt::format("{{ {} }}", fmt::join(out, ", ")),
                     hidden.empty() ? "" : fmt::format("  # without env: {}", fmt::join(hidden, ", ")));
}

std::int64_t parse_memory(const std::string& text) {
  static const std::map<std::string, std::int64_t, std::less<>> units = {
      {"KB", 1LL << 10}, {"MB", 1LL << 20}, {"GB", 1LL << 30}, {"TB", 1LL << 40}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = units.find(std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end)));
  if (error != std::errc{} || unit == units.end() || !(number > 0 && number < 1e10)) {
    throw UsageError("expected an amount of memory, such as \"24GB\"");
  }
  return static_cast<std::int64_t>(number * static_cast<double>(unit->second));
}

std::map<std::string, std::int64_t> parse_devices(const toml::node& node) {
  const auto* devices = node.as_table();
  if (!devices) refuse("devices", "a table for each device");
  std::map<std::string, std::int64_t> all;
  for (const auto& [name, settings] : *devices) {
    const std::string key = fmt::format("devices.{}", name.str());
    const auto* table = settings.as_table();
    if (!table) refuse(key, "a table with its memory");
    for (const auto& [setting, value] : *table) {
      const std::string its_key = fmt::format("{}.{}", key, setting.str());
      if (setting.str() != "memory") throw UsageError(its_key + ": unknown key; known is memory");
      try {
        all[std::string(name.str())] = parse_memory(text_of(value, its_key));
      } catch (const UsageError& e) {
        throw UsageError(fmt::format("{}: {}", its_key, e.what()));
      }
    }
  }
  return all;
}

}  // namespace penstock
