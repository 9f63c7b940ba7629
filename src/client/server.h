#pragma once
#include <memory>

#include "client/json_view.h"
#include "client/profile.h"
#include "net/http_client.h"

namespace penstock {

// Why a command cannot do what it was told, in one line that says what to do, and what the program then ends with.
class CommandFailure : public std::runtime_error {
 public:
  CommandFailure(int exit_code, const std::string& message) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// The API of the server that a command asks. One that is not there at the first request is told of at once. Once it has
// answered, what may be sent again is, with growing pauses for up to ten minutes, while it is away or says that it will
// soon do better. Functions throw CommandFailure when it refuses, or is away for longer. Loop thread only.
class Server {
 public:
  Server(asio::io_context& loop, Clock& clock, const Target& target);

  const std::string& url() const { return target_.url; }
  Clock& clock() { return clock_; }

  // `path`: with its query. The object that came.
  Task<json::object> get(std::string path);
  // Done once, also when it has to be sent again, by an Idempotency-Key of its own.
  Task<json::object> post_once(std::string path, std::string body);
  // POST or DELETE, sent once.
  Task<json::object> send(std::string method, std::string path);

  // A new file of that content. `file` is asked for a source of it, and of what size it is, before each try.
  struct Upload {
    std::string headers;  // as in ClientRequest
    std::uint64_t size = 0;
    std::unique_ptr<ByteSource> source;
  };
  Task<json::object> upload(std::function<Upload()> begin);

  // Passes on what GET brings until that has come to its end. Where it breaks off, or says nothing for `silence_max`,
  // it is asked for again, by the path and headers that `ask` says then.
  struct Asked {
    std::string path, headers;
  };
  Task<> follow(std::function<Asked()> ask, std::function<void(std::string_view piece)> take, Millis silence_max);

  // Is told once, in words, when a server that was there is away, and with "" when it is back.
  std::function<void(const std::string& trouble)> on_trouble;

 private:
  using Sent = boost::system::result<ClientResponse, SendFailure>;
  // What to tell of an answer that is none, and whether another try may do better.
  struct Failed {
    std::string message;
    int exit_code;
    bool passes;
  };
  Failed failed(const Sent& sent) const;
  // Sends it until it is done, or throws. `own`: all headers of ours.
  Task<json::object> insist(std::string method, std::string path, std::string own, std::string body);
  // Waits before the next try, or throws.
  Task<> try_again(const Sent& sent);
  void is_well();
  std::string headers(std::string_view more = {}) const;

  const Target target_;
  Clock& clock_;
  HttpClient client_;
  bool met_ = false;
  std::optional<Moment> away_since_;
  Millis pause_;
};

}  // namespace penstock
