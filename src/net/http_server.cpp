#include "net/http_server.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/system_error.hpp>

#include "base/error.h"
#include "base/log.h"
#include "net/message.h"
#include "net/tls.h"

namespace penstock {
namespace {

using asio::ip::tcp;

constexpr Millis kSweepPeriod{100};
constexpr Millis kLingerTimeout{2'000};  // for a client to take the last response before its connection is reset
constexpr Millis kAcceptPauseMin{50}, kAcceptPauseMax{1'000};
constexpr std::size_t kIdleBufferSize = 4 * 1024;
constexpr std::size_t kBodyBufferSize = 64 * 1024;      // a body's first reads,
constexpr std::size_t kBodyBufferSizeMax = 256 * 1024;  // and once they fill it
constexpr std::uint64_t kDrainSizeMax = 1 << 20;
constexpr std::size_t kProgressSizeMin = 16 * 1024;  // of a body that must come within one progress_timeout

const char* reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 507:
      return "Insufficient Storage";
    default:
      return "";
  }
}

// Seen also behind bytes that are not read yet.
bool is_closed_by_peer(Socket& socket) {
  pollfd poll{.fd = socket.native_handle(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&poll, 1, 0) > 0;
}

bool has_no_body(int status) {
  return status < 200 || status == 204 || status == 304;
}

struct Session : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  explicit Session(Socket s) : socket(std::move(s)) {}

  Socket socket;
  std::unique_ptr<TlsConnection> tls;  // null: plain HTTP
  ReadBuffer in{kIdleBufferSize};
  std::string out;                  // a response's head
  Moment deadline = Moment::max();  // of the read or write under way
  bool expired = false;             // it was cancelled because its deadline had passed
  bool idle = false;                // waits for the first byte of a request
  bool linger = false;              // close only when the client has had time to read
};

using SessionList = boost::intrusive::list<Session, boost::intrusive::constant_time_size<false>>;

}  // namespace

struct HttpServer::Impl {
  class Body;
  struct Place;

  Impl(asio::io_context& the_loop, Clock& the_clock, Options the_options, Handler the_handler, Refusal the_refusal)
      : loop(the_loop),
        clock(the_clock),
        options(std::move(the_options)),
        handler(std::move(the_handler)),
        refusal(std::move(the_refusal)),
        acceptor(the_loop),
        place_free(the_loop),
        tasks(the_loop) {
    if (!options.tls_certificate.empty() || !options.tls_key.empty()) {
      identity.emplace(options.tls_certificate, options.tls_key, clock.monotonic());
    }
  }

  // Reads some more bytes into `session.in`. The error is timed_out, or else the connection is over.
  Task<error_code> fill(Session& session, Moment deadline);
  // Writes it all, or throws ClientGone.
  Task<> write(Session& session, std::span<asio::const_buffer> buffers);

  // The session's own coroutine, and its steps.
  Task<> serve(Socket socket);
  Task<bool> shake_hands(Session& session);    // for TLS; false: close the connection
  Task<bool> serve_request(Session& session);  // the same
  Task<std::size_t> read_head(Session& session);
  Task<> write_response(Session& session, Response& response, bool to_head, bool http11, bool& close);
  Task<> write_stream(Session& session, Response& response, bool chunked);
  Task<> linger(Session& session);

  void append_head(std::string& out, const Response& response, bool http11, bool close, bool chunked);
  const std::string& date();
  void arm_sweep();
  void sweep();

  asio::io_context& loop;
  Clock& clock;
  const Options options;
  const Handler handler;
  const Refusal refusal;
  std::optional<TlsIdentity> identity;
  tcp::acceptor acceptor;
  std::size_t connections = 0;
  Event place_free;
  TaskGroup tasks;
  SessionList sessions;
  std::unique_ptr<Alarm> alarm;  // set while there are sessions
  bool stopping = false;
  std::chrono::sys_seconds date_second{};
  std::string date_text;
};

// A request's body as its handler reads it.
class HttpServer::Impl::Body : public ByteSource {
 public:
  Body(Impl& server, Session& session, const MessageHead& head)
      : server_(server), session_(session), continue_(head.expect_continue), left_(head.content_length.value_or(0)) {
    if (head.chunked) chunks_.emplace();
    if (ended()) continue_ = false;
  }

  Task<std::string_view> next() override {
    session_.in.consume(std::exchange(taken_, 0));
    if (ended()) co_return std::string_view();
    if (continue_) {
      continue_ = false;
      std::array buffers{asio::const_buffer(asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25))};
      co_await server_.write(session_, buffers);
    }
    if (!chunks_) {
      if (session_.in.empty()) co_await fill(left_);
      taken_ = static_cast<std::size_t>(std::min<std::uint64_t>(left_, session_.in.size()));
      left_ -= taken_;
      co_return session_.in.view().substr(0, taken_);
    }
    while (true) {
      const ChunkDecoder::Step step = chunks_->next(session_.in.view());
      if (!step.piece.empty()) {
        taken_ = step.consumed;
        co_return step.piece;
      }
      session_.in.consume(step.consumed);
      if (chunks_->done()) co_return std::string_view();
      co_await fill(kBodyBufferSizeMax);
    }
  }

  bool ended() const { return chunks_ ? chunks_->done() : left_ == 0; }

  // Whether what is left can be read and dropped to get at the next request. A client that still waits for its
  // "100 Continue" may send the body or not.
  bool drainable() const { return !continue_ && left_ <= kDrainSizeMax; }

  // After the response. False when there was too much, or it did not come.
  Task<bool> drain() {
    std::uint64_t dropped = 0;
    while (true) {
      const std::string_view piece = co_await next();
      if (piece.empty()) co_return true;
      dropped += piece.size();
      if (dropped > kDrainSizeMax) co_return false;
    }
  }

 private:
  Task<> fill(std::uint64_t wanted) {
    ReadBuffer& in = session_.in;
    const std::size_t size = filled_ ? kBodyBufferSizeMax : kBodyBufferSize;
    if (wanted > in.capacity())
      in.reserve(std::max(in.capacity(), static_cast<std::size_t>(std::min<std::uint64_t>(wanted, size))));

    // What counts is the time spent waiting for the client, so a handler that is slow costs it nothing.
    const std::size_t size_before = in.size();
    const Moment start = server_.clock.monotonic();
    const error_code error = co_await server_.fill(session_, start + server_.options.progress_timeout - waited_);
    if (error == asio::error::timed_out) throw HttpError(408, "the body comes too slowly");
    if (error) throw ClientGone("the client has closed the connection in the middle of a body");
    filled_ = in.size() == in.capacity();
    since_progress_ += in.size() - size_before;
    waited_ += server_.clock.monotonic() - start;
    if (since_progress_ >= kProgressSizeMin) {
      since_progress_ = 0;
      waited_ = Millis{0};
    }
  }

  Impl& server_;
  Session& session_;
  bool continue_;
  std::uint64_t left_;  // without chunked coding
  std::optional<ChunkDecoder> chunks_;
  std::size_t taken_ = 0;  // bytes of session_.in that the last piece stands in
  bool filled_ = false;    // the last read filled its buffer
  std::size_t since_progress_ = 0;
  Millis waited_{0};
};

Task<error_code> HttpServer::Impl::fill(Session& session, Moment deadline) {
  session.deadline = deadline;
  session.expired = false;
  const std::span<char> room = session.in.room();
  error_code error;
  if (session.tls) {
    session.in.filled(co_await session.tls->read_some(room, error));
  } else {
    session.in.filled(co_await session.socket.async_read_some(asio::buffer(room.data(), room.size()),
                                                              asio::redirect_error(asio::use_awaitable, error)));
  }
  session.deadline = Moment::max();
  if (error == asio::error::operation_aborted && session.expired) error = asio::error::timed_out;
  co_return error;
}

Task<> HttpServer::Impl::write(Session& session, std::span<asio::const_buffer> buffers) {
  error_code error = session.tls ? session.tls->write_now(buffers) : write_now(session.socket, buffers);
  while (!error && bytes_left(buffers) > 0) {
    session.deadline = clock.monotonic() + options.progress_timeout;
    session.expired = false;
    if (session.tls) {
      error = co_await session.tls->write_some(buffers);
    } else {
      error = co_await write_some(session.socket, buffers);
    }
    session.deadline = Moment::max();
  }
  if (error) throw ClientGone(session.expired ? "the client does not read" : "the client has closed the connection");
}

// One of the connections that may be open at a time.
struct HttpServer::Impl::Place {
  explicit Place(Impl& the_server) : server(the_server) { ++server.connections; }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    --server.connections;
    server.place_free.notify();
  }
  Impl& server;
};

Task<> HttpServer::Impl::serve(Socket socket) {
  const Place place(*this);
  Session session(std::move(socket));
  sessions.push_back(session);
  arm_sweep();
  try {
    bool more = true;
    if (identity) more = co_await shake_hands(session);
    while (more) {
      more = co_await serve_request(session);
      if (session.in.capacity() > kIdleBufferSize && session.in.size() <= kIdleBufferSize)
        session.in.reserve(kIdleBufferSize);
    }
    if (session.tls) session.tls->end();
    if (session.linger) co_await linger(session);
  } catch (const ClientGone& e) {
    log::debug("HTTP: {}", e.what());
  }
}

Task<bool> HttpServer::Impl::shake_hands(Session& session) {
  session.tls = std::make_unique<TlsConnection>(identity->context(clock.monotonic()), session.socket);
  session.deadline = clock.monotonic() + options.header_timeout;
  session.idle = true;
  const error_code error = co_await session.tls->handshake();
  session.deadline = Moment::max();
  if (!error) co_return true;
  const bool plain_http = session.tls->is_plain_http();
  session.tls.reset();
  if (!plain_http) throw ClientGone("TLS: " + error.message());
  Response response = refusal(HttpError(400, "this port speaks TLS: ask with https://"));
  bool close = true;
  co_await write_response(session, response, false, true, close);
  session.linger = true;
  co_return false;
}

Task<bool> HttpServer::Impl::serve_request(Session& session) {
  MessageHead head;
  Request request;
  std::optional<Body> body;
  Response response;
  bool failed = false;
  session.linger = false;
  try {
    const std::size_t head_size = co_await read_head(session);
    if (head_size == 0) co_return false;
    head = parse_request_head(session.in.view().substr(0, head_size));
    if (!head.target.starts_with('/') && head.target != "*") throw HttpError(400, "the request target is no path");
    const std::size_t query = std::min(head.target.find('?'), head.target.size());
    request.method = head.method;
    request.path = head.target.substr(0, query);
    request.query = head.target.substr(std::min(query + 1, head.target.size()));
    request.headers = std::move(head.headers);
    if (!head.chunked) request.body_size = head.content_length.value_or(0);
    session.in.consume(head_size);

    request.body = &body.emplace(*this, session, head);
    request.client_gone = [&session] { return is_closed_by_peer(session.socket); };
    response = co_await handler(request);
  } catch (const HttpError& e) {
    response = refusal(e);
    failed = true;
  }

  bool close = failed || head.close || stopping || !body->drainable();
  session.linger = failed || !body->ended();
  co_await write_response(session, response, request.method == "HEAD", head.http11, close);
  if (close) co_return false;
  try {
    co_return co_await body->drain();
  } catch (const HttpError&) {
    co_return false;  // the response is already out
  }
}

// The size of a request's head, which then stands in `session.in`; 0 when there is no further request.
Task<std::size_t> HttpServer::Impl::read_head(Session& session) {
  std::size_t scanned = 0;
  Moment deadline = session.in.empty() ? Moment::max() : clock.monotonic() + options.header_timeout;
  while (true) {
    const HeadScan scan = scan_head(session.in.view(), scanned);
    if (scan == HeadScan::done && scanned == 2) {  // an empty line before a request: RFC 9112 section 2.2
      session.in.consume(std::exchange(scanned, 0));
      continue;
    }
    if (scan == HeadScan::bad) throw HttpError(400, "malformed head: a bare line feed or a folded line");
    if (scanned > options.header_size_max) {
      throw HttpError(431, fmt::format("the head is larger than {} bytes", options.header_size_max));
    }
    if (scan == HeadScan::done) co_return scanned;

    session.idle = session.in.empty();
    if (session.idle && stopping) co_return 0;
    if (session.idle) deadline = clock.monotonic() + options.idle_timeout;
    const error_code error = co_await fill(session, deadline);
    if (error && session.idle) co_return 0;
    if (error == asio::error::timed_out) throw HttpError(408, "the head comes too slowly");
    if (error) throw ClientGone("the client has closed the connection in the middle of a head");
    if (session.idle) deadline = clock.monotonic() + options.header_timeout;
    session.idle = false;
  }
}

Task<> HttpServer::Impl::write_response(Session& session, Response& response, bool to_head, bool http11, bool& close) {
  const bool no_body = has_no_body(response.status);
  const bool chunked = response.stream && !response.stream_size && http11 && !no_body;
  if (response.stream && !response.stream_size && !http11) close = true;  // the end of the connection ends the body
  append_head(session.out, response, http11, close, chunked);
  const bool head_only = to_head || no_body;

  std::array buffers{asio::const_buffer(session.out.data(), session.out.size()),
                     head_only || response.stream ? asio::const_buffer() : asio::buffer(response.body)};
  co_await write(session, buffers);
  session.out.clear();
  if (session.out.capacity() > kIdleBufferSize) session.out.shrink_to_fit();
  if (response.stream && !head_only) co_await write_stream(session, response, chunked);
}

Task<> HttpServer::Impl::write_stream(Session& session, Response& response, bool chunked) {
  std::uint64_t left = response.stream_size.value_or(0);
  while (true) {
    const std::string_view piece = co_await response.stream->next();
    if (piece.empty()) break;
    if (response.stream_size) {
      if (piece.size() > left) throw std::runtime_error("a response's stream is longer than its size");
      left -= piece.size();
    }
    std::array<char, 20> size_line;
    const auto size_end = fmt::format_to(size_line.data(), "{:x}\r\n", piece.size());
    const std::size_t size_length = chunked ? static_cast<std::size_t>(size_end - size_line.data()) : 0;
    std::array buffers{asio::const_buffer(size_line.data(), size_length),
                       asio::const_buffer(piece.data(), piece.size()), asio::const_buffer("\r\n", chunked ? 2 : 0)};
    co_await write(session, buffers);
  }
  if (left > 0) throw std::runtime_error("a response's stream is shorter than its size");
  if (chunked) {
    std::array buffers{asio::const_buffer("0\r\n\r\n", 5)};
    co_await write(session, buffers);
  }
}

// A connection that is closed with bytes unread is reset, and the client may lose the response that explains why.
Task<> HttpServer::Impl::linger(Session& session) {
  error_code error;
  session.socket.shutdown(Socket::shutdown_send, error);
  const Moment deadline = clock.monotonic() + kLingerTimeout;
  while (!error) {
    session.in.consume(session.in.size());
    error = co_await fill(session, deadline);
  }
}

void HttpServer::Impl::append_head(std::string& out, const Response& response, bool http11, bool close, bool chunked) {
  out.reserve(512);
  fmt::format_int status(response.status);
  out.append("HTTP/1.1 ").append(status.data(), status.size()).append(" ").append(reason_of(response.status));
  out.append("\r\nDate: ").append(date()).append("\r\n");
  for (const auto& [name, value] : response.headers) {
    out.append(name).append(": ");
    const std::size_t begin = out.size();
    out.append(value);
    // A value may hold a client's words: they must not end the line.
    for (std::size_t i = begin; i < out.size(); ++i) {
      if (out[i] == '\r' || out[i] == '\n' || out[i] == '\0') out[i] = ' ';
    }
    out.append("\r\n");
  }
  if (chunked) {
    out.append("Transfer-Encoding: chunked\r\n");
  } else if (!has_no_body(response.status) && (!response.stream || response.stream_size)) {
    fmt::format_int length(response.stream ? *response.stream_size : response.body.size());
    out.append("Content-Length: ").append(length.data(), length.size()).append("\r\n");
  }
  if (close && http11) out.append("Connection: close\r\n");
  out.append("\r\n");
}

const std::string& HttpServer::Impl::date() {
  const auto second = std::chrono::floor<std::chrono::seconds>(clock.now());
  if (second != date_second || date_text.empty()) {
    date_second = second;
    date_text = fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", fmt::gmtime(std::chrono::system_clock::to_time_t(second)));
  }
  return date_text;
}

void HttpServer::Impl::arm_sweep() {
  if (!alarm) alarm = clock.alarm_at(clock.monotonic() + kSweepPeriod, [this] { sweep(); });
}

void HttpServer::Impl::sweep() {
  const Moment now = clock.monotonic();
  for (Session& session : sessions) {
    if (session.deadline > now) continue;
    session.deadline = Moment::max();
    session.expired = true;
    error_code ignored;
    session.socket.cancel(ignored);
  }
  alarm.reset();
  if (!sessions.empty()) arm_sweep();
}

HttpServer::HttpServer(asio::io_context& loop, Clock& clock, Options options, Handler handler, Refusal refusal)
    : impl_(std::make_unique<Impl>(loop, clock, std::move(options), std::move(handler), std::move(refusal))) {}

HttpServer::~HttpServer() = default;

Response HttpServer::in_plain_words(const HttpError& error) {
  Response response{.status = error.status(), .body = error.what()};
  response.headers.add("Content-Type", "text/plain");
  return response;
}

void HttpServer::listen() {
  const Options& options = impl_->options;
  tcp::acceptor& acceptor = impl_->acceptor;
  try {
    std::string host = options.host;
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const auto found = tcp::resolver(impl_->loop).resolve(host, std::to_string(options.port), tcp::resolver::passive);
    tcp::endpoint endpoint = found.begin()->endpoint();
    for (const auto& entry : found) {  // of a name's addresses IPv4 is the one that clients expect
      if (entry.endpoint().address().is_v4()) endpoint = entry.endpoint();
    }
    acceptor.open(endpoint.protocol());
    acceptor.set_option(tcp::acceptor::reuse_address(true));
    acceptor.bind(endpoint);
    acceptor.listen();
  } catch (const boost::system::system_error& e) {
    throw UsageError(fmt::format("cannot listen on {}:{}: {}", options.host, options.port, e.code().message()));
  }
}

std::uint16_t HttpServer::port() const {
  return impl_->acceptor.local_endpoint().port();
}

Task<> HttpServer::run() {
  Impl& impl = *impl_;
  Millis pause{0};
  bool told = false;
  while (true) {
    while (impl.connections >= impl.options.connections_max) {
      if (!std::exchange(told, true)) log::warn("all {} connections are in use; others have to wait", impl.connections);
      co_await impl.place_free.wait();
    }
    if (impl.stopping) break;
    Socket socket(impl.loop);
    error_code error;
    co_await impl.acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (impl.stopping) break;
    if (error == asio::error::operation_aborted) throw boost::system::system_error(error);
    if (error == asio::error::connection_aborted) continue;
    if (error) {
      // Most likely there is no file descriptor left. The connection stays in the kernel's queue, so trying again at
      // once would only spin.
      if (pause == Millis{0}) log::warn("cannot accept connections: {}; trying again", error.message());
      pause = std::clamp(2 * pause, kAcceptPauseMin, kAcceptPauseMax);
      co_await sleep_until(impl.clock, impl.clock.monotonic() + pause);
      continue;
    }
    pause = Millis{0};
    socket.set_option(tcp::no_delay(true), error);
    socket.non_blocking(true, error);
    if (!error) impl.tasks.spawn("HTTP session", impl.serve(std::move(socket)));
  }
}

Task<> HttpServer::stop(Millis patience) {
  Impl& impl = *impl_;
  impl.stopping = true;
  error_code ignored;
  impl.acceptor.close(ignored);
  for (Session& session : impl.sessions) {
    if (session.idle) session.socket.cancel(ignored);
  }
  const auto end = impl.clock.alarm_at(impl.clock.monotonic() + patience, [&impl] { impl.tasks.cancel(); });
  co_await impl.tasks.join();
}

}  // namespace penstock
