#include "net/http_client.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/system_error.hpp>
#include <cstring>
#include <limits>

#include "net/lookup.h"
#include "net/message.h"

namespace penstock {
namespace {

using asio::ip::tcp;
using Kind = SendFailure::Kind;

constexpr Millis kSweepPeriod{100};
constexpr Millis kIdleCheckAfter{1'000};  // a connection kept longer is looked at before it is used
constexpr Millis kIdleMax{60'000};
constexpr std::size_t kBufferSize = 8 * 1024;
constexpr std::size_t kLongBodySize = 64 * 1024;  // of unknown length: worth a buffer of that size
constexpr std::size_t kHeadSizeMax = 64 * 1024;
constexpr std::size_t kBodyStepMax =
    256 * 1024;  // a body's memory grows with what has arrived, not with what is promised

// One connection, with or without TLS. While a request is under way it hangs in the client's list of active ones, which
// the sweep walks.
struct Connection : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  explicit Connection(asio::io_context& loop) : socket(loop) {}

  Socket socket;
  std::unique_ptr<asio::ssl::stream<Socket&>> tls;
  ReadBuffer in{kBufferSize};
  std::string out;  // a request's head
  Moment deadline = Moment::max();
  Millis timeout{};  // of the request, or of each piece of a response that is passed on
  Moment idle_since{};
  bool expired = false;   // closed because its deadline had passed
  bool answered = false;  // the first byte of the response is here

  void close() {
    error_code ignored;
    socket.close(ignored);
  }

  // Whether the far side has closed it, or sent what nobody asked for, while it was idle.
  bool is_stale() {
    char byte;
    return ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
  }
};

using ConnectionList = boost::intrusive::list<Connection, boost::intrusive::constant_time_size<false>>;

bool has_body(std::string_view method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

// Nothing of a unix socket.
std::optional<asio::ip::address> ip_address(const Socket::endpoint_type& endpoint) {
  if (endpoint.protocol().family() != AF_INET && endpoint.protocol().family() != AF_INET6) return std::nullopt;
  tcp::endpoint ip;
  std::memcpy(ip.data(), endpoint.data(), endpoint.size());
  return ip.address();
}

// Trusts the authorities of that file, or those that the machine trusts.
asio::ssl::context make_tls_context(const std::string& ca_file) {
  asio::ssl::context made(asio::ssl::context::tls_client);
  if (ca_file.empty()) {
    made.set_default_verify_paths();
  } else {
    made.load_verify_file(ca_file);
  }
  made.set_verify_mode(asio::ssl::verify_peer);
  ::SSL_CTX_set_min_proto_version(made.native_handle(), TLS1_2_VERSION);
  return made;
}

// One for all clients that trust whom the machine trusts, since reading those takes a while.
asio::ssl::context& machine_tls_context() {
  static asio::ssl::context context = make_tls_context({});
  return context;
}

}  // namespace

struct HttpClient::Impl {
  using Sent = boost::system::result<ClientResponse, SendFailure>;

  Impl(asio::io_context& the_loop, Clock& the_clock, Endpoint the_endpoint, Options the_options);

  Task<Sent> send(const ClientRequest& request, Millis timeout, const Greeting* greeting);
  std::unique_ptr<Connection> take_idle();
  void keep(std::unique_ptr<Connection> connection);

  // Nothing when connected, and greeted; else what went wrong.
  Task<std::optional<SendFailure>> open(Connection& connection, Moment deadline, const Greeting* greeting);
  // The same, in words.
  Task<std::optional<std::string>> connect(Connection& connection, Moment deadline);
  Task<std::vector<Socket::endpoint_type>> resolve(Moment deadline);
  bool admits(const Socket::endpoint_type& address) const;
  Task<error_code> handshake(Connection& connection);

  // One request and its response on an open connection.
  Task<Sent> exchange(Connection& connection, const ClientRequest& request, bool& reusable);
  Task<error_code> write(Connection& connection, std::span<asio::const_buffer> buffers);
  Task<error_code> write_stream(Connection& connection, const ClientRequest& request);
  Task<error_code> fill(Connection& connection);
  Task<std::optional<SendFailure>> read_body(Connection& connection, const MessageHead& head, std::string& body);
  Task<std::optional<SendFailure>> read_sized(Connection& connection, std::uint64_t size, std::string& body);
  // A body piece by piece. `take` returns false for what is too much.
  using Take = std::function<bool(std::string_view piece)>;
  Task<std::optional<SendFailure>> read_pieces(Connection& connection, const MessageHead& head, const Take& take);

  SendFailure broken(const Connection& connection, error_code error) const;
  SendFailure too_large() const;
  void append_head(std::string& out, const ClientRequest& request) const;
  void arm_sweep();
  void sweep();

  asio::io_context& loop;
  Clock& clock;
  const Endpoint endpoint;
  const Options options;
  std::string name;         // of the endpoint, for messages
  std::string head_middle;  // between target and the caller's headers
  std::string socket_host;  // without brackets
  std::optional<asio::ssl::context> own_trust;
  ConnectionList active;
  std::vector<std::unique_ptr<Connection>> idle;  // the last one was used last
  std::unique_ptr<Alarm> alarm;                   // set while there are connections
};

HttpClient::Impl::Impl(asio::io_context& the_loop, Clock& the_clock, Endpoint the_endpoint, Options the_options)
    : loop(the_loop), clock(the_clock), endpoint(std::move(the_endpoint)), options(std::move(the_options)) {
  const bool default_port = endpoint.port == (endpoint.tls ? "443" : "80");
  const bool unix_socket = !endpoint.unix_path.empty();
  name = unix_socket ? "unix:" + endpoint.unix_path : endpoint.host + ":" + endpoint.port;
  head_middle = " HTTP/1.1\r\nHost: " + (unix_socket || default_port ? endpoint.host : name) + "\r\n";
  socket_host = endpoint.host.starts_with('[') ? endpoint.host.substr(1, endpoint.host.size() - 2) : endpoint.host;
  if (!options.ca_file.empty()) own_trust = make_tls_context(options.ca_file);
}

Task<HttpClient::Impl::Sent> HttpClient::Impl::send(const ClientRequest& request, Millis timeout,
                                                    const Greeting* greeting) {
  const Moment deadline = clock.monotonic() + timeout;
  std::unique_ptr<Connection> connection = request.stream ? nullptr : take_idle();
  bool kept = connection != nullptr;
  std::optional<SendFailure> lost;  // with a kept connection
  while (true) {
    if (!connection) connection = std::make_unique<Connection>(loop);
    active.push_back(*connection);
    arm_sweep();
    if (!kept) {
      std::optional<SendFailure> failure = co_await open(*connection, deadline, greeting);
      if (failure) co_return lost ? *lost : *failure;
    }
    connection->deadline = deadline;
    connection->timeout = timeout;
    bool reusable = false;
    Sent sent = co_await exchange(*connection, request, reusable);
    if (reusable) keep(std::move(connection));
    if (!kept || sent || sent.error().kind != Kind::reset) co_return sent;

    // The far side had closed the kept connection, or was about to: that says nothing about this request. Unless it is
    // gone: then it may have gone with the request under way.
    lost = sent.error();
    kept = false;
    connection.reset();
  }
}

std::unique_ptr<Connection> HttpClient::Impl::take_idle() {
  while (!idle.empty()) {
    std::unique_ptr<Connection> connection = std::move(idle.back());
    idle.pop_back();
    const bool fresh = clock.monotonic() - connection->idle_since < kIdleCheckAfter;
    if (fresh || !connection->is_stale()) return connection;
  }
  return nullptr;
}

void HttpClient::Impl::keep(std::unique_ptr<Connection> connection) {
  connection->unlink();
  if (connection->expired || idle.size() >= options.idle_connections_max) return;
  connection->in.reserve(kBufferSize);
  connection->idle_since = clock.monotonic();
  idle.push_back(std::move(connection));
}

Task<std::optional<SendFailure>> HttpClient::Impl::open(Connection& connection, Moment deadline,
                                                        const Greeting* greeting) {
  while (true) {
    std::optional<std::string> failure = co_await connect(connection, deadline);
    if (failure) co_return SendFailure{Kind::connect, std::move(*failure)};
    connection.deadline = deadline;
    if (!greeting) co_return std::nullopt;
    bool reusable = false;
    Sent sent = co_await exchange(connection, greeting->request, reusable);
    if (!sent && sent.error().kind == Kind::timeout) co_return sent.error();
    if (!sent) co_return SendFailure{Kind::connect, sent.error().message};
    if (!greeting->accept(*sent)) co_return SendFailure{Kind::connect, fmt::format("{} is another one by now", name)};
    if (reusable) co_return std::nullopt;
    greeting = nullptr;  // it wants a connection for each request
    connection.in.consume(connection.in.size());
  }
}

Task<std::optional<std::string>> HttpClient::Impl::connect(Connection& connection, Moment deadline) {
  deadline = std::min(deadline, clock.monotonic() + options.connect_timeout);
  std::vector<Socket::endpoint_type> addresses;
  std::string failure;
  try {
    addresses = co_await resolve(deadline);
  } catch (const boost::system::system_error& e) {
    if (is_cancelled(e)) throw;
    failure = e.code().message();
  } catch (const std::runtime_error& e) {
    failure = e.what();
  }
  if (!std::all_of(addresses.begin(), addresses.end(), [this](const auto& address) { return admits(address); })) {
    co_return fmt::format("cannot connect to {}: its address is not public", name);
  }
  error_code error;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    // An address that does not answer leaves the others their share of the time.
    const Moment now = clock.monotonic();
    connection.deadline = now + std::max(deadline - now, Millis{0}) / static_cast<long>(addresses.size() - i);
    connection.expired = false;
    connection.close();
    co_await connection.socket.async_connect(addresses[i], asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted && !connection.expired) throw boost::system::system_error(error);
    if (!error) {
      connection.socket.non_blocking(true, error);
      if (endpoint.unix_path.empty()) connection.socket.set_option(tcp::no_delay(true), error);
      if (endpoint.tls) error = co_await handshake(connection);
      if (!error && !connection.expired) co_return std::nullopt;
    }
    failure = connection.expired ? "no answer in time" : error.message();
  }
  co_return fmt::format("cannot connect to {}: {}", name, failure);
}

Task<std::vector<Socket::endpoint_type>> HttpClient::Impl::resolve(Moment deadline) {
  std::vector<Socket::endpoint_type> addresses;
  if (!endpoint.unix_path.empty()) {
    addresses.emplace_back(asio::local::stream_protocol::endpoint(endpoint.unix_path));
    co_return addresses;
  }
  error_code not_numeric;
  const auto address = asio::ip::make_address(socket_host, not_numeric);
  if (!not_numeric) {
    addresses.emplace_back(tcp::endpoint(address, static_cast<std::uint16_t>(std::stoi(endpoint.port))));
    co_return addresses;
  }
  FoundAddresses found;
  if (options.admit) {
    found = co_await look_up_apart(loop, clock, socket_host, endpoint.port, deadline);
  } else {
    found = co_await look_up(loop, clock, socket_host, endpoint.port, deadline);
  }
  addresses.assign(found.begin(), found.end());
  co_return addresses;
}

bool HttpClient::Impl::admits(const Socket::endpoint_type& address) const {
  if (!options.admit) return true;
  const auto ip = ip_address(address);
  return ip && options.admit(*ip);
}

Task<error_code> HttpClient::Impl::handshake(Connection& connection) {
  connection.tls =
      std::make_unique<asio::ssl::stream<Socket&>>(connection.socket, own_trust ? *own_trust : machine_tls_context());
  error_code not_numeric;
  asio::ip::make_address(socket_host, not_numeric);
  if (not_numeric) ::SSL_set_tlsext_host_name(connection.tls->native_handle(), socket_host.c_str());
  connection.tls->set_verify_callback(asio::ssl::host_name_verification(socket_host));
  error_code error;
  co_await connection.tls->async_handshake(asio::ssl::stream_base::client,
                                           asio::redirect_error(asio::use_awaitable, error));
  co_return error;
}

Task<HttpClient::Impl::Sent> HttpClient::Impl::exchange(Connection& connection, const ClientRequest& request,
                                                        bool& reusable) {
  connection.answered = false;
  connection.out.clear();
  append_head(connection.out, request);
  std::array buffers{asio::const_buffer(connection.out.data(), connection.out.size()),
                     asio::const_buffer(request.body.data(), request.body.size())};
  error_code error;
  if (!connection.tls) error = write_now(connection.socket, buffers);
  if (!error && bytes_left(buffers) > 0) error = co_await write(connection, buffers);
  if (!error && request.stream) error = co_await write_stream(connection, request);
  const bool written = !error;  // if not, the far side may still have said why it stopped reading

  MessageHead head;
  ClientResponse response;
  std::optional<SendFailure> failure;
  std::size_t scanned = 0;
  while (true) {
    const HeadScan scan = scan_head(connection.in.view(), scanned);
    if (scan == HeadScan::bad || scanned > kHeadSizeMax) {
      co_return SendFailure{Kind::malformed, fmt::format("{} did not answer in HTTP", name)};
    }
    if (scan == HeadScan::more) {
      error = co_await fill(connection);
      if (error) co_return broken(connection, error);
      connection.answered = true;
      continue;
    }
    try {
      head = parse_response_head(connection.in.view().substr(0, scanned));
    } catch (const HttpError& e) {
      failure = SendFailure{Kind::malformed, fmt::format("the response of {}: {}", name, e.what())};
    }
    if (failure) co_return *failure;
    connection.in.consume(scanned);
    if (head.status == 101) co_return SendFailure{Kind::malformed, fmt::format("{} switched protocols unasked", name)};
    if (head.status >= 200) break;
    scanned = 0;  // "100 Continue" and the like come before the response
  }

  response.status = head.status;
  response.headers = std::move(head.headers);
  bool whole = true;
  if (request.method != "HEAD" && head.status != 204 && head.status != 304) {
    const std::string_view arrived = connection.in.view();
    if (request.on_piece && head.status < 300) {
      const Take pass_on = [&](std::string_view piece) {
        connection.deadline = clock.monotonic() + connection.timeout;
        request.on_piece(piece);
        return true;
      };
      failure = co_await read_pieces(connection, head, pass_on);
      if (failure) co_return *failure;
    } else if (head.content_length && *head.content_length <= arrived.size() &&
               *head.content_length <= options.body_size_max) {
      response.body = arrived.substr(0, *head.content_length);
      connection.in.consume(response.body.size());
    } else {
      failure = co_await read_body(connection, head, response.body);
      if (failure && !options.status_suffices) co_return *failure;
      whole = !failure;
    }
  }
  reusable = written && whole && !head.close && connection.in.empty();
  co_return response;
}

Task<error_code> HttpClient::Impl::write(Connection& connection, std::span<asio::const_buffer> buffers) {
  error_code error;
  if (connection.tls) {
    co_await asio::async_write(*connection.tls, buffers, asio::redirect_error(asio::use_awaitable, error));
  } else {
    while (!error && bytes_left(buffers) > 0) error = co_await write_some(connection.socket, buffers);
  }
  co_return error;
}

Task<error_code> HttpClient::Impl::write_stream(Connection& connection, const ClientRequest& request) {
  error_code error;
  std::uint64_t left = request.stream_size;
  while (!error) {
    const std::string_view piece = co_await request.stream->next();
    if (piece.empty()) break;
    if (piece.size() > left) throw std::runtime_error("a request's stream is longer than its size");
    left -= piece.size();
    std::array buffers{asio::const_buffer(piece.data(), piece.size())};
    error = co_await write(connection, buffers);
  }
  if (!error && left > 0) throw std::runtime_error("a request's stream is shorter than its size");
  co_return error;
}

Task<error_code> HttpClient::Impl::fill(Connection& connection) {
  const std::span<char> room = connection.in.room();
  const asio::mutable_buffer buffer(room.data(), room.size());
  error_code error;
  std::size_t n;
  if (connection.tls) {
    n = co_await connection.tls->async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
  } else {
    n = co_await connection.socket.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
  }
  connection.in.filled(n);
  co_return error;
}

Task<std::optional<SendFailure>> HttpClient::Impl::read_body(Connection& connection, const MessageHead& head,
                                                             std::string& body) {
  if (!head.chunked && head.content_length) {
    std::optional<SendFailure> failure = co_await read_sized(connection, *head.content_length, body);
    co_return failure;
  }
  const Take take = [&](std::string_view piece) {
    if (piece.size() > options.body_size_max - body.size()) return false;
    body += piece;
    if (body.size() > kLongBodySize) connection.in.reserve(kLongBodySize);
    return true;
  };
  std::optional<SendFailure> failure = co_await read_pieces(connection, head, take);
  co_return failure;
}

Task<std::optional<SendFailure>> HttpClient::Impl::read_sized(Connection& connection, std::uint64_t size,
                                                              std::string& body) {
  if (size > options.body_size_max) co_return too_large();
  body = connection.in.view().substr(0, size);
  connection.in.consume(body.size());
  std::size_t filled = body.size();
  while (filled < size) {
    // Straight into the body: it may be long.
    if (filled == body.size())
      body.resize(static_cast<std::size_t>(std::min<std::uint64_t>(size, filled + kBodyStepMax)));
    const asio::mutable_buffer room(body.data() + filled, body.size() - filled);
    error_code error;
    if (connection.tls) {
      filled += co_await connection.tls->async_read_some(room, asio::redirect_error(asio::use_awaitable, error));
    } else {
      filled += co_await connection.socket.async_read_some(room, asio::redirect_error(asio::use_awaitable, error));
    }
    if (error) co_return broken(connection, error);
  }
  co_return std::nullopt;
}

Task<std::optional<SendFailure>> HttpClient::Impl::read_pieces(Connection& connection, const MessageHead& head,
                                                               const Take& take) {
  ChunkDecoder chunks;
  std::uint64_t left = head.content_length.value_or(std::numeric_limits<std::uint64_t>::max());
  while (true) {
    ChunkDecoder::Step step;
    std::string failure;
    if (head.chunked) {
      try {
        step = chunks.next(connection.in.view());
      } catch (const HttpError& e) {
        failure = e.what();
      }
    } else {
      step.piece = connection.in.view().substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left, SIZE_MAX)));
      step.consumed = step.piece.size();
      left -= step.piece.size();
    }
    if (!failure.empty()) co_return SendFailure{Kind::malformed, fmt::format("the response of {}: {}", name, failure)};
    if (!step.piece.empty() && !take(step.piece)) co_return too_large();
    connection.in.consume(step.consumed);
    if (head.chunked ? chunks.done() : left == 0) co_return std::nullopt;
    if (!step.piece.empty()) continue;
    const error_code error = co_await fill(connection);
    if (error == asio::error::eof && !head.chunked && !head.content_length) co_return std::nullopt;
    if (error) co_return broken(connection, error);
  }
}

// Throws when it broke because the caller was cancelled.
SendFailure HttpClient::Impl::broken(const Connection& connection, error_code error) const {
  if (connection.expired) return {Kind::timeout, fmt::format("no complete response of {} in time", name)};
  if (error == asio::error::operation_aborted) throw boost::system::system_error(error);
  if (connection.answered) {
    return {Kind::truncated, fmt::format("{} closed the connection in the middle of its response", name)};
  }
  return {Kind::reset, fmt::format("{} closed the connection without a response", name)};
}

SendFailure HttpClient::Impl::too_large() const {
  return {Kind::too_large, fmt::format("the response of {} is larger than {} bytes", name, options.body_size_max)};
}

void HttpClient::Impl::append_head(std::string& out, const ClientRequest& request) const {
  out.append(request.method).append(" ").append(endpoint.base_path).append(request.target).append(head_middle);
  out.append(request.headers);
  const std::uint64_t body_size = request.stream ? request.stream_size : request.body.size();
  if (body_size > 0 || has_body(request.method)) {
    fmt::format_int length(body_size);
    out.append("Content-Length: ").append(length.data(), length.size()).append("\r\n");
  }
  out.append("\r\n");
}

void HttpClient::Impl::arm_sweep() {
  if (!alarm) alarm = clock.alarm_at(clock.monotonic() + kSweepPeriod, [this] { sweep(); });
}

void HttpClient::Impl::sweep() {
  const Moment now = clock.monotonic();
  for (Connection& connection : active) {
    if (connection.deadline > now) continue;
    connection.deadline = Moment::max();
    connection.expired = true;
    connection.close();
  }
  std::erase_if(idle, [now](const auto& connection) { return now - connection->idle_since >= kIdleMax; });
  alarm.reset();
  if (!active.empty() || !idle.empty()) arm_sweep();
}

HttpClient::HttpClient(asio::io_context& loop, Clock& clock, Endpoint endpoint, Options options)
    : impl_(std::make_unique<Impl>(loop, clock, std::move(endpoint), std::move(options))) {}

HttpClient::~HttpClient() = default;

Task<boost::system::result<ClientResponse, SendFailure>> HttpClient::send(const ClientRequest& request, Millis timeout,
                                                                          const Greeting* greeting) {
  return impl_->send(request, timeout, greeting);
}

void HttpClient::close_idle() {
  impl_->idle.clear();
}

}  // namespace penstock
