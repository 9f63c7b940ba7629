#pragma once
#include <string>

#include "store/db.h"

namespace penstock {

// Workers are offline when the last sign of any is older than this: half a dozen were missed.
constexpr Millis kOfflineAfter{60'000};

// Gives signs that this process's worker is there. They depend on nothing that the worker does, so one that is busy,
// loads a model or drains gives them too. Loop thread only; the referenced parts must outlive it.
class Presence {
 public:
  Presence(asio::io_context& loop, Clock& clock, Db& db, std::string worker);

  // Returns when the first sign has been stored.
  Task<> start();
  Task<> stop();

 private:
  Task<> give_sign();
  Task<> run();

  Clock& clock_;
  Db& db_;
  const std::string worker_;
  TaskGroup tasks_;
};

}  // namespace penstock
