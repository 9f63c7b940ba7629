#pragma once
#include <chrono>
#include <exception>
#include <optional>
#include <stdexcept>

#include "base/async.h"

namespace penstock {

template <class T>
Task<> keep_result(Task<T> task, std::optional<T>& result, std::exception_ptr& failure) {
  try {
    result.emplace(co_await std::move(task));
  } catch (...) {
    failure = std::current_exception();
  }
}

inline Task<> keep_result(Task<> task, std::exception_ptr& failure) {
  try {
    co_await std::move(task);
  } catch (...) {
    failure = std::current_exception();
  }
}

// Runs the loop until `task` has ended, and returns or throws what it did. For tests: a loop in which nothing happens
// for half a minute is given up.
template <class T>
T run_task(asio::io_context& loop, Task<T> task) {
  TaskGroup group(loop);
  std::exception_ptr failure;
  const auto finish = [&] {
    loop.restart();
    while (group.size() > 0) {
      if (loop.run_one_for(std::chrono::seconds(30)) == 0) throw std::runtime_error("the loop has nothing left to do");
    }
    if (failure) std::rethrow_exception(failure);
  };
  if constexpr (std::is_void_v<T>) {
    group.spawn("test", keep_result(std::move(task), failure));
    finish();
  } else {
    std::optional<T> result;
    group.spawn("test", keep_result(std::move(task), result, failure));
    finish();
    return std::move(*result);
  }
}

}  // namespace penstock
