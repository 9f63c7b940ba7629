#include "store/sessions.h"

namespace penstock {
namespace {

constexpr std::chrono::milliseconds kLookAgain{500};

}  // namespace

std::unique_ptr<sql::Connection> Sessions::take() {
  std::vector<std::unique_ptr<sql::Connection>> ended;  // closed without the lock
  {
    const std::lock_guard guard(mutex_);
    while (!idle_.empty()) {
      std::unique_ptr<sql::Connection> session = std::move(idle_.back());
      idle_.pop_back();
      if (session->is_usable()) return session;
      ended.push_back(std::move(session));
    }
    if (away_) {
      const auto now = std::chrono::steady_clock::now();
      if (now < look_at_) throw sql::Failure(sql::Failure::Kind::away, *away_);
      look_at_ = now + std::chrono::minutes(1);  // until this caller knows
    }
  }
  try {
    auto session = open_();
    const std::lock_guard guard(mutex_);
    away_.reset();
    return session;
  } catch (const std::exception& e) {
    const std::lock_guard guard(mutex_);
    away_ = e.what();
    look_at_ = std::chrono::steady_clock::now() + kLookAgain;
    throw sql::Failure(sql::Failure::Kind::away, *away_);
  }
}

void Sessions::give(std::unique_ptr<sql::Connection> session) {
  if (!session->is_usable()) return;
  const std::lock_guard guard(mutex_);
  idle_.push_back(std::move(session));
}

}  // namespace penstock
