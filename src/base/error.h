#pragma once
#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace penstock {

// What a caller may be told: an answer, not an accident. `kind` says what the caller can do about it and decides the
// HTTP status; `message` has words for a person; `code` and `param` are OpenAI's, empty where there is none.
struct Error {
  enum class Kind {
    invalid_request,  // mend the request
    not_found,
    conflict,           // right request, wrong state
    key_reused,         // an Idempotency-Key that stands for another request
    too_large,          // past a limit in bytes
    queue_full,         // come back later
    too_many_requests,  // come back in a moment
    quota_exceeded,     // remove something of yours, or wait until it has ended
    unauthorized,       // send a key that is known
    forbidden,          // this one may not
    no_space,           // the disk is full
    unavailable         // a part that is needed is away
  };

  Kind kind;
  std::string message;
  std::string code = {};
  std::string param = {};
};

// What most refusals are: a parameter that must be mended.
inline Error invalid_request(std::string message, std::string param, std::string code = "invalid_value") {
  return {Error::Kind::invalid_request, std::move(message), std::move(code), std::move(param)};
}

// Result<T> for what may be so (no such batch, queue full). Accidents (disk gone, database gone, a bug) are exceptions
// and are caught in three places: the route boundary, TaskGroup, and main.
template <class T>
using Result = boost::system::result<T, Error>;

// Called by Result::value() on an error: the caller had promised that there is none.
[[noreturn]] inline void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw std::runtime_error(error.message);
}

// Bad configuration or command line: `main` prints the message as one line and exits with 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace penstock
