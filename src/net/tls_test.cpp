#include "net/tls.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <boost/asio/ssl.hpp>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "testing/http_fixture.h"

namespace penstock {
namespace {

using Kind = SendFailure::Kind;
namespace fs = std::filesystem;

std::string temporary(const std::string& name) {
  return fmt::format("{}penstock_{}_{}", ::testing::TempDir(), ::getpid(), name);
}

// A key, and a certificate for 127.0.0.1 that vouches for itself, in two files.
struct Certificate {
  explicit Certificate(const std::string& name) : file(temporary(name + ".pem")), key_file(temporary(name + ".key")) {
    EVP_PKEY* key = ::EVP_EC_gen("P-256");
    X509* certificate = ::X509_new();
    ::X509_set_version(certificate, 2);
    ::ASN1_INTEGER_set(::X509_get_serialNumber(certificate), 1);
    ::X509_gmtime_adj(::X509_getm_notBefore(certificate), -60);
    ::X509_gmtime_adj(::X509_getm_notAfter(certificate), 3'600);
    ::X509_set_pubkey(certificate, key);
    const auto* text = reinterpret_cast<const unsigned char*>(name.c_str());
    ::X509_NAME_add_entry_by_NID(::X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8, text, -1, -1, 0);
    ::X509_set_issuer_name(certificate, ::X509_get_subject_name(certificate));
    X509_EXTENSION* names = ::X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
    ::X509_add_ext(certificate, names, -1);
    ::X509_EXTENSION_free(names);
    ::X509_sign(certificate, key, ::EVP_sha256());
    std::FILE* out = std::fopen(file.c_str(), "w");
    ::PEM_write_X509(out, certificate);
    std::fclose(out);
    out = std::fopen(key_file.c_str(), "w");
    ::PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(out);
    ::X509_free(certificate);
    ::EVP_PKEY_free(key);
  }
  ~Certificate() {
    ::unlink(file.c_str());
    ::unlink(key_file.c_str());
  }
  const std::string file, key_file;
};

// A client that trusts everybody and says every byte itself.
class TlsPeer {
 public:
  explicit TlsPeer(asio::io_context& loop) : context_(asio::ssl::context::tls_client), stream(loop, context_) {}

  Task<error_code> connect(std::uint16_t port) {
    const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port);
    co_await stream.next_layer().async_connect(endpoint, asio::use_awaitable);
    error_code error;
    co_await stream.async_handshake(asio::ssl::stream_base::client, asio::redirect_error(asio::use_awaitable, error));
    co_return error;
  }

  Task<> send(std::string bytes) { co_await asio::async_write(stream, asio::buffer(bytes), asio::use_awaitable); }

  // Up to and with `end`; what there is when the connection ends first, and `end_of` is how.
  Task<std::string> read_until(std::string end) {
    std::size_t found;
    while ((found = in_.find(end)) == std::string::npos) {
      char chunk[4096];
      const std::size_t n =
          co_await stream.async_read_some(asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, ended_by));
      if (ended_by) co_return std::exchange(in_, {});
      in_.append(chunk, n);
    }
    std::string text = in_.substr(0, found + end.size());
    in_.erase(0, text.size());
    co_return text;
  }

  std::string subject() {
    X509* certificate = ::SSL_get1_peer_certificate(stream.native_handle());
    char text[64] = {};
    ::X509_NAME_get_text_by_NID(::X509_get_subject_name(certificate), NID_commonName, text, sizeof text);
    ::X509_free(certificate);
    return text;
  }

 private:
  asio::ssl::context context_;
  std::string in_;

 public:
  asio::ssl::stream<tcp::socket> stream;
  error_code ended_by;
};

// The machine of these tests trusts one certificate.
class TlsTest : public Http {
 protected:
  static void SetUpTestSuite() {
    std::signal(SIGPIPE, SIG_IGN);
    trusted = std::make_unique<Certificate>("trusted");
    ::setenv("SSL_CERT_FILE", trusted->file.c_str(), 1);
  }
  static void TearDownTestSuite() {
    ::unsetenv("SSL_CERT_FILE");
    trusted.reset();
  }

  void serve_tls(HttpServer::Handler handler, HttpServer::Options options = {}) {
    if (options.tls_certificate.empty()) options.tls_certificate = trusted->file;
    if (options.tls_key.empty()) options.tls_key = trusted->key_file;
    serve(std::move(handler), std::move(options));
  }

  std::string url(const std::string& host = "127.0.0.1") const {
    return fmt::format("https://{}:{}", host, server->port());
  }

  std::string subject() {
    TlsPeer peer(loop);
    EXPECT_FALSE(run_task(loop, peer.connect(server->port())));
    return peer.subject();
  }

  static std::unique_ptr<Certificate> trusted;
};
std::unique_ptr<Certificate> TlsTest::trusted;

TEST_F(TlsTest, AClientSpeaksOnlyToWhomItTrusts) {
  const Certificate own("own");
  serve_tls(hello, {.tls_certificate = own.file, .tls_key = own.key_file});
  const Sent stranger = get(client_of(url()));
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().kind, Kind::connect);
  run_task(loop, server->stop(Millis{0}));

  serve_tls(hello, {.connections_max = 1});
  const Sent wrong_name = get(client_of(url("localhost")));
  ASSERT_FALSE(wrong_name);
  EXPECT_EQ(wrong_name.error().kind, Kind::connect);
  HttpClient& to = client_of(url());
  for (int i = 0; i < 2; ++i) {  // over one connection: there is no other
    const Sent sent = get(to, "/x");
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_EQ(sent->body, "hello /x");
  }
}

TEST_F(TlsTest, AClientWithAnAuthorityOfItsOwnTrustsNobodyElse) {
  const Certificate own("own");
  serve_tls(hello, {.tls_certificate = own.file, .tls_key = own.key_file});
  const Sent sent = get(client_of(url(), {.ca_file = own.file}));
  ASSERT_TRUE(sent) << sent.error().message;
  run_task(loop, server->stop(Millis{0}));

  serve_tls(hello);
  const Sent stranger = get(client_of(url(), {.ca_file = own.file}));
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().kind, Kind::connect);
  EXPECT_THROW(client_of(url(), {.ca_file = "no.pem"}), boost::system::system_error);
}

TEST_F(TlsTest, LongBodiesArriveWholeBothWays) {
  serve_tls(echo);
  HttpClient& to = client_of(url());
  std::string body;
  while (body.size() < 20'000'000) body += fmt::format("{} ", body.size());
  const ClientRequest request{"POST", "/", {}, body};
  for (int i = 0; i < 2; ++i) {
    const Sent sent = run_task(loop, to.send(request, kLong));
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_TRUE(sent->body == body);
  }
  Pieces source(100, false);
  const ClientRequest streamed{
      .method = "PUT", .target = "/", .headers = {}, .body = {}, .stream = &source, .stream_size = 10'000'000};
  EXPECT_TRUE(run_task(loop, to.send(streamed, kLong))->body == std::string(10'000'000, 'x'));
}

TEST_F(TlsTest, PipelinedRequestsAndContinueAreTheSame) {
  serve_tls(echo);
  TlsPeer peer(loop);
  EXPECT_FALSE(run_task(loop, peer.connect(server->port())));
  run_task(loop, peer.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(run_task(loop, peer.read_until("\r\n\r\n")), "HTTP/1.1 100 Continue\r\n\r\n");
  run_task(loop, peer.send("onePOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo"));
  const std::string answers = run_task(loop, peer.read_until("two"));
  EXPECT_EQ(count(answers, "HTTP/1.1 200 OK"), 2u) << answers;
  EXPECT_LT(answers.find("one"), answers.find("two"));
}

Task<Response> endless(Request& request) {
  Response response;
  const bool fail = request.query == "fail";
  response.stream = std::make_unique<Pieces>(3, fail);
  co_return response;
}

TEST_F(TlsTest, AnEndIsToldFromABreak) {
  serve_tls(endless);
  for (const bool fail : {false, true}) {
    TlsPeer peer(loop);
    EXPECT_FALSE(run_task(loop, peer.connect(server->port())));
    run_task(loop, peer.send(fail ? "GET /?fail HTTP/1.0\r\n\r\n" : "GET / HTTP/1.0\r\n\r\n"));
    EXPECT_TRUE(run_task(loop, peer.read_until("\x01no such bytes")).ends_with("xxx"));
    const error_code expected = fail ? error_code(asio::ssl::error::stream_truncated) : error_code(asio::error::eof);
    EXPECT_EQ(peer.ended_by, expected) << peer.ended_by.message();
  }
}

TEST_F(TlsTest, ASlowHandshakeIsGivenUp) {
  serve_tls(hello);
  TlsPeer good(loop);
  EXPECT_FALSE(run_task(loop, good.connect(server->port())));
  tasks_of_test.spawn("silent", say_later(""));
  pump();
  clock.advance(Millis{29'900});
  pump();
  EXPECT_FALSE(closed);
  clock.advance(Millis{300});
  pump();
  EXPECT_TRUE(closed);
  EXPECT_EQ(heard, "");

  Peer slow(loop);
  run_task(loop, slow.connect(server->port()));
  const std::string begun("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  for (int i = 0; i < 40; ++i) {
    if (i < 30) run_task(loop, slow.send(i < 11 ? begun.substr(static_cast<std::size_t>(i), 1) : "x"));
    pump();
    clock.advance(Millis{1'000});
  }
  EXPECT_EQ(run_task(loop, slow.read_to_end()), "");
  run_task(loop, good.send("GET /x HTTP/1.0\r\n\r\n"));
  EXPECT_NE(run_task(loop, good.read_until("hello /x")), "") << "others were served meanwhile";
}

TEST_F(TlsTest, PlainHttpIsToldWhatToDoAndGarbageGetsNoHttp) {
  serve_tls(hello);
  for (const char* method : {"GET", "POST", "HEAD", "PUT"}) {
    const std::string answer = say(fmt::format("{} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", method));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
    EXPECT_TRUE(answer.ends_with("\r\n\r\nthis port speaks TLS: ask with https://")) << answer;
  }
  for (const std::string& bytes : {std::string("DELETE / HTTP/1.1\r\n\r\n"), std::string(1'000, 'x'),
                                   std::string("\x16\x03\x01\xff\xff") + std::string(1'000, '\x01')}) {
    EXPECT_EQ(count(say(bytes), "HTTP"), 0u) << bytes.substr(0, 10);
  }
  EXPECT_EQ(get(client_of(url()), "/x")->body, "hello /x");
}

TEST_F(TlsTest, OldVersionsAndOtherProtocolsAreRefused) {
  serve_tls(hello);
  struct Case {
    int version;
    std::string protocols;
    std::string chosen;  // "-": refused
  };
  for (const Case& c : std::initializer_list<Case>{
           {TLS1_3_VERSION, "", ""},
           {TLS1_2_VERSION, "\x02h2\x08http/1.1", "http/1.1"},
           {TLS1_3_VERSION, "\x02h2\x08http/1.1", "http/1.1"},
           {TLS1_3_VERSION, "\x02h2", "-"},
           {TLS1_1_VERSION, "", "-"},
       }) {
    TlsPeer peer(loop);
    SSL* const ssl = peer.stream.native_handle();
    ::SSL_set_security_level(ssl, 0);
    ::SSL_set_min_proto_version(ssl, c.version);
    ::SSL_set_max_proto_version(ssl, c.version);
    if (!c.protocols.empty()) {
      ::SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(c.protocols.data()),
                            static_cast<unsigned>(c.protocols.size()));
    }
    const error_code error = run_task(loop, peer.connect(server->port()));
    EXPECT_EQ(bool(error), c.chosen == "-") << c.version << c.protocols << error.message();
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    if (!error) ::SSL_get0_alpn_selected(ssl, &chosen, &size);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), error ? "" : c.chosen);
  }
}

TEST_F(TlsTest, AClientThatNeverReadsIsGivenUp) {
  bool gone = false;
  struct Long {
    bool& gone;
    Task<Response> handle(Request&) {
      Response response;
      response.stream = std::make_unique<Pieces>(1'000'000, false, &gone);
      co_return response;
    }
  } handler{gone};
  serve_tls(std::bind_front(&Long::handle, &handler));
  TlsPeer peer(loop);
  EXPECT_FALSE(run_task(loop, peer.connect(server->port())));
  run_task(loop, peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  pump();
  clock.advance(Millis{59'000});
  pump();
  EXPECT_FALSE(gone);
  clock.advance(Millis{1'200});
  pump();
  EXPECT_TRUE(gone);
}

TEST_F(TlsTest, StoppingEndsIdleConnectionsAtOnce) {
  serve_tls(hello);
  TlsPeer idle(loop);
  EXPECT_FALSE(run_task(loop, idle.connect(server->port())));
  Peer silent(loop);
  run_task(loop, silent.connect(server->port()));
  pump();
  run_task(loop, server->stop(kLong));
  EXPECT_EQ(run_task(loop, idle.read_until("x")), "");
  EXPECT_EQ(idle.ended_by, asio::error::eof);
}

TEST_F(TlsTest, ChangedFilesAreReadAgainWithinAMinute) {
  const Certificate used("first"), second("second");
  serve_tls(hello, {.tls_certificate = used.file, .tls_key = used.key_file});
  const auto replace = [&](const std::string& with, const std::string& what) {
    fs::copy_file(with, what + ".new", fs::copy_options::overwrite_existing);
    fs::last_write_time(what + ".new", fs::last_write_time(what) + std::chrono::seconds(1));
    fs::rename(what + ".new", what);
  };
  EXPECT_EQ(subject(), "first");
  replace(second.file, used.file);
  clock.advance(Millis{59'000});
  EXPECT_EQ(subject(), "first");
  clock.advance(Millis{2'000});
  EXPECT_EQ(subject(), "first") << "the key is not there yet";
  replace(second.key_file, used.key_file);
  EXPECT_EQ(subject(), "first");
  clock.advance(Millis{60'000});
  EXPECT_EQ(subject(), "second");
  ::unlink(used.key_file.c_str());
  clock.advance(Millis{60'000});
  EXPECT_EQ(subject(), "second");
}

TEST_F(TlsTest, FilesThatCannotBeUsedAreNamed) {
  const Certificate other("other");
  const std::string empty = temporary("empty"), locked = temporary("locked");
  std::ofstream{empty};
  {
    EVP_PKEY* key = ::EVP_EC_gen("P-256");
    std::FILE* out = std::fopen(locked.c_str(), "w");
    unsigned char passphrase[] = "secret";
    ::PEM_write_PrivateKey(out, key, ::EVP_aes_128_cbc(), passphrase, 6, nullptr, nullptr);
    std::fclose(out);
    ::EVP_PKEY_free(key);
  }
  struct Case {
    std::string certificate, key, message;
  };
  for (const Case& c : std::initializer_list<Case>{
           {trusted->file, "", "tls_certificate and tls_key belong together: set both, or none"},
           {"", trusted->key_file, "tls_certificate and tls_key belong together: set both, or none"},
           {"/no/such.pem", trusted->key_file, "tls_certificate: cannot read /no/such.pem: No such file or directory"},
           {trusted->file, "/no/such.key", "tls_key: cannot read /no/such.key: No such file or directory"},
           {empty, trusted->key_file, "tls_certificate: " + empty + " holds no certificate as PEM: "},
           {trusted->file, empty, "tls_key: " + empty + " holds no private key as PEM without a passphrase: "},
           {trusted->file, locked, "tls_key: " + locked + " holds no private key as PEM without a passphrase: "},
           {trusted->file, trusted->file, "tls_key: " + trusted->file + " holds no private key"},
           {trusted->file, other.key_file, "tls_key: " + other.key_file + " is not the key of the certificate in "},
           {"/", trusted->key_file, "tls_certificate: / holds no certificate"},
       }) {
    try {
      TlsIdentity(c.certificate, c.key, Moment{});
      ADD_FAILURE() << c.message;
    } catch (const UsageError& e) {
      EXPECT_TRUE(std::string(e.what()).starts_with(c.message)) << e.what();
    }
  }
  ::unlink(empty.c_str());
  ::unlink(locked.c_str());
}

}  // namespace
}  // namespace penstock
