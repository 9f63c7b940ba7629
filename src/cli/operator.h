#pragma once
#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/app.h"
#include "client/table.h"
#include "store/sessions.h"

// What commands have in common that work on the database of the configuration, beside a running server or without one.
namespace penstock {

class OperatorDatabase {
 public:
  // `create`: also a database that is not there yet. Throws UsageError when it cannot be used.
  OperatorDatabase(const Config& config, bool create);

  // Runs f(Store&) in one transaction, durable when it returns.
  template <class F>
  auto write(F f) {
    return sessions_->transaction(Sessions::kTries, f);
  }
  // For people: without a password.
  const std::string& name() const { return name_; }

 private:
  std::optional<DataDirectory> folder_;  // ours while no server has it
  std::string name_;
  std::optional<Sessions> sessions_;
};

Timestamp wall_clock();

// What a transaction came to. Throws UsageError when that is a refusal.
template <class T>
T done(Result<T> result) {
  if (!result) throw UsageError(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// An entry in the audit log, of somebody on the machine.
void audit(Store& store, const ProjectId& project, const char* action, const std::string& object_id);

// "90d", "24h", "30m" or "0s". `param` is what gave it. Throws UsageError.
std::chrono::seconds parse_duration(std::string_view param, const std::string& text);

}  // namespace penstock
