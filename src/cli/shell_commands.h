#pragma once
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace penstock {

// `penstock completion` and `penstock man`, which tell what the parser knows, and `penstock settings`, which the build
// of the docs alone needs.
class ShellCommands {
 public:
  explicit ShellCommands(CLI::App& app);

  // Runs the one that was given.
  std::optional<int> run() const;

 private:
  const CLI::App& app_;
  CLI::App& completing_;
  CLI::App& paging_;
  CLI::App& settings_;
  std::string shell_, command_, folder_;
};

}  // namespace penstock
