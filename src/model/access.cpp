#include "model/access.h"

namespace penstock {
namespace {

constexpr Scope kScopes[] = {Scope::files, Scope::batches, Scope::admin, Scope::monitor};

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::files:
      return "files";
    case Scope::batches:
      return "batches";
    case Scope::admin:
      return "admin";
    case Scope::monitor:
      return "monitor";
  }
  return "";
}

std::vector<std::string_view> words(const Scopes& scopes) {
  std::vector<std::string_view> out;
  for (const Scope scope : kScopes) {
    if (has(scopes, scope)) out.push_back(to_string(scope));
  }
  return out;
}

std::optional<Scopes> parse_scopes(const std::vector<std::string>& words) {
  Scopes scopes;
  for (const std::string& word : words) {
    bool known = false;
    for (const Scope scope : kScopes) {
      if (word != to_string(scope)) continue;
      scopes.set(static_cast<std::size_t>(scope));
      known = true;
    }
    if (!known) return std::nullopt;
  }
  return scopes;
}

}  // namespace penstock
