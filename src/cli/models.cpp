#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/sync.h"
#include "cli/commands.h"
#include "cli/model_setup.h"
#include "cli/operator.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

std::string or_dash(std::int64_t number) {
  return number > 0 ? std::to_string(number) : "-";
}

std::string fit_text(const ModelSetup& setup) {
  if (!setup.gguf) return setup.faults.empty() ? "-" : "see penstock models check";
  return fmt::format("{}: {} of {}", setup.fits ? "fits" : "does not fit", memory_text(setup.need.total()),
                     setup.memory ? memory_text(*setup.memory) : "?");
}

std::string count_text(std::int64_t count) {
  const double number = static_cast<double>(count);
  return count < 1'000'000'000 ? fmt::format("{:.0f}M", number / 1e6) : fmt::format("{:.1f}B", number / 1e9);
}

void print_check(const ModelSetup& setup) {
  fmt::print("{}: {}\n", setup.config.name, setup.faults.empty() ? "ok" : "cannot be served");
  for (const std::string& fault : setup.faults) fmt::print("  {}\n", fault);
  if (const auto& gguf = setup.gguf) {
    const int kv_heads = gguf->kv_heads.empty() ? 0 : *std::max_element(gguf->kv_heads.begin(), gguf->kv_heads.end());
    fmt::print(
        "  {} with {} parameters in {}, {}; {} layers of {} heads, {} of them for keys and values; {} tokens in its "
        "vocabulary; trained for a context of {}; {} chat template\n",
        gguf->architecture, count_text(gguf->parameters), gguf->quantisation, memory_text(gguf->file_size),
        gguf->layers, gguf->heads, kv_heads, gguf->vocabulary, gguf->context_length,
        gguf->has_chat_template ? "a" : "no");
    fmt::print(
        "  {} x {} tokens of context take {}: {} of weights, {} for the contexts, {} to compute with; {} is there\n",
        setup.slots, setup.context, memory_text(setup.need.total()), memory_text(setup.need.weights),
        memory_text(setup.need.kv_cache), memory_text(setup.need.buffers),
        setup.memory ? memory_text(*setup.memory) : "who knows what");
  }
  for (const std::string& advice : setup.advice) fmt::print("  {}\n", advice);
}

// Written beside it and renamed, so that it is the old one or the new one, whole.
void replace_file(const fs::path& path, const std::string& text) {
  const fs::path part = path.string() + ".part";
  fs::remove(part);
  // It may hold a key, as the old one may: until it has the rights of that one it is ours alone.
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, fs::exists(path) ? 0600 : 0666);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "cannot write " + part.string());
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw std::system_error(errno, std::generic_category(), "cannot write " + part.string());
  sync_file(fd);
  ::close(fd);
  if (fs::exists(path)) fs::permissions(part, fs::status(path).permissions());
  fs::rename(part, path);
  sync_directory(fs::absolute(path).parent_path().string());
}

}  // namespace

int models_list(const Config& config) {
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "ENGINE", "SIZE", "QUANTISATION", "CONTEXT", "SLOTS", "DEVICE", "MEMORY"}};
  for (const ModelConfig& model : config.models) {
    const ModelSetup setup = set_up(model, config);
    rows.push_back({model.name, model.engine, setup.gguf ? memory_text(setup.gguf->file_size) : "-",
                    setup.gguf ? setup.gguf->quantisation : "-", or_dash(setup.context), or_dash(setup.slots),
                    model.device, fit_text(setup)});
  }
  print_table(rows);
  return kExitOk;
}

int models_check(const Config& config, const std::optional<std::string>& name) {
  bool one_was_found = false, all_are_well = true;
  for (const ModelConfig& model : config.models) {
    if (name && *name != model.name) continue;
    const ModelSetup setup = set_up(model, config);
    print_check(setup);
    one_was_found = true;
    all_are_well &= setup.faults.empty();
  }
  if (name && !one_was_found) throw UsageError(fmt::format("models: '{}' is not among the configured models", *name));
  return all_are_well ? kExitOk : kExitFaults;
}

int models_add(const NewModel& model) {
  // What is behind a link is to be changed, not the link.
  const fs::path file = fs::exists(model.file) ? fs::canonical(model.file) : fs::absolute(model.file);
  const fs::path folder = file.parent_path();
  std::ifstream in(file, std::ios::binary);
  std::ostringstream content;
  if (in) content << in.rdbuf();
  std::string text = content.str();
  if (!text.empty() && text.back() != '\n') text += '\n';

  std::string path = model.path;
  if (fs::exists(path) && !fs::path(path).is_absolute())
    path = fs::absolute(path).lexically_normal().lexically_relative(folder).string();
  text += fmt::format("{}[models.{}]\npath = {}\n", text.empty() ? "" : "\n", quote(model.name), quote(path));
  if (model.engine) text += fmt::format("engine = {}\n", quote(*model.engine));
  if (model.device) text += fmt::format("device = {}\n", quote(*model.device));

  const Config before = fs::exists(file) ? load_config({}, file.string()) : Config{};
  for (const ModelConfig& other : before.models) {
    if (other.name == model.name)
      throw UsageError(fmt::format("{}: there is a model '{}' already", model.file, model.name));
  }
  toml::table table;
  // Behind models in a form that no table can be added to, this is no TOML any more.
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& e) {
    throw UsageError(fmt::format("{}: the model cannot be added behind what is there; add it by hand ({})", model.file,
                                 e.description()));
  }
  const ModelConfig added = parse_model(model.name, *table["models"][model.name].node(), folder);
  const ModelSetup setup = set_up(added, before);
  if (added.engine == "llama.cpp" && !setup.gguf) throw UsageError(setup.faults.front());
  replace_file(file, text);
  fmt::print("added to {}\n", model.file);
  print_check(setup);
  return kExitOk;
}

}  // namespace penstock
