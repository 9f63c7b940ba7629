#include "net/http.h"

#include <gtest/gtest.h>

#include "net/message.h"
#include "testing/run_task.h"

namespace penstock {
namespace {

class Pieces : public ByteSource {
 public:
  explicit Pieces(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  Task<std::string_view> next() override {
    if (at_ == pieces_.size()) co_return std::string_view();
    co_return pieces_[at_++];
  }

 private:
  std::vector<std::string> pieces_;
  std::size_t at_ = 0;
};

TEST(Headers, AreFoundWhateverTheirCaseAndTheFirstWins) {
  Headers headers;
  headers.add("Content-Type", "text/plain");
  headers.add("content-type", "text/html");
  EXPECT_EQ(headers.find("CONTENT-TYPE"), "text/plain");
  EXPECT_EQ(headers.find("Content"), std::nullopt);
}

TEST(ReadAll, JoinsThePiecesUpToTheLimit) {
  asio::io_context loop;
  Pieces fits({"abc", "de"});
  EXPECT_EQ(run_task(loop, read_all(fits, 5)), "abcde");
  Pieces too_long({"abc", "def"});
  try {
    run_task(loop, read_all(too_long, 5));
    FAIL();
  } catch (const HttpError& e) {
    EXPECT_EQ(e.status(), 413);
  }
}

TEST(QueryParam, IsDecodedAndTheFirstOfItsName) {
  EXPECT_EQ(query_param("limit=20&after=batch_1", "after"), "batch_1");
  EXPECT_EQ(query_param("a=x+y%2Fz&a=2", "a"), "x y/z");
  EXPECT_EQ(query_param("%61b=1", "ab"), "1");
  EXPECT_EQ(query_param("flag&x=", "flag"), "");
  EXPECT_EQ(query_param("flag&x=", "x"), "");
  EXPECT_EQ(query_param("a=b=c", "a"), "b=c");
  EXPECT_EQ(query_param("ab=1", "a"), std::nullopt);
  EXPECT_EQ(query_param("", "a"), std::nullopt);
  EXPECT_EQ(query_param("a=%zz%4&b=%41", "a"), "%zz%4");  // malformed escapes are what they look like
}

TEST(PercentDecode, RefusesWhatIsCutShort) {
  EXPECT_EQ(percent_decode("a%20b+c"), "a b+c");
  EXPECT_EQ(percent_decode("%e4%BD"), "\xe4\xbd");
  EXPECT_EQ(percent_decode("a%2"), std::nullopt);
  EXPECT_EQ(percent_decode("%"), std::nullopt);
  EXPECT_EQ(percent_decode("%g0"), std::nullopt);
  EXPECT_EQ(percent_decode("%00"), std::string(1, '\0'));
}

TEST(ParseRange, FollowsRfc9110) {
  using Kind = ByteRange::Kind;
  struct Case {
    const char* header;
    std::uint64_t size;
    Kind kind;
    std::uint64_t first = 0, length = 0;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"bytes=0-0", 10, Kind::range, 0, 1},
           {"bytes=2-5", 10, Kind::range, 2, 4},
           {"bytes=2-", 10, Kind::range, 2, 8},
           {"bytes=2-99", 10, Kind::range, 2, 8},
           {"BYTES=9-9", 10, Kind::range, 9, 1},
           {"bytes=-3", 10, Kind::range, 7, 3},
           {"bytes=-30", 10, Kind::range, 0, 10},
           {"bytes=0-99999999999999999999999", 10, Kind::range, 0, 10},
           {"bytes=10-", 10, Kind::unsatisfiable},
           {"bytes=99999999999999999999999-", 10, Kind::unsatisfiable},
           {"bytes=-0", 10, Kind::unsatisfiable},
           {"bytes=0-", 0, Kind::unsatisfiable},
           {"bytes=-1", 0, Kind::unsatisfiable},
           {"bytes=5-2", 10, Kind::ignore},
           {"bytes=0-1,3-4", 10, Kind::ignore},
           {"bytes=", 10, Kind::ignore},
           {"bytes=-", 10, Kind::ignore},
           {"bytes=a-b", 10, Kind::ignore},
           {"bytes=+1-2", 10, Kind::ignore},
           {"items=0-1", 10, Kind::ignore},
           {"", 10, Kind::ignore},
       }) {
    const ByteRange range = parse_range(c.header, c.size);
    EXPECT_EQ(range.kind, c.kind) << c.header;
    EXPECT_EQ(range.first, c.first) << c.header;
    EXPECT_EQ(range.length, c.length) << c.header;
  }
}

TEST(ScanHead, FindsTheEmptyLineHoweverTheBytesArrive) {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string bytes = head + "body\n\r\n\r\n";
  std::size_t scanned = 0;
  for (std::size_t n = 0; n < head.size(); ++n) {
    ASSERT_EQ(scan_head(std::string_view(bytes).substr(0, n), scanned), HeadScan::more) << n;
  }
  EXPECT_EQ(scan_head(bytes, scanned), HeadScan::done);
  EXPECT_EQ(scanned, head.size());
}

TEST(ScanHead, RefusesBareLineFeedsAndFoldedLines) {
  for (const char* bytes :
       {"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "\n", "GET / HTTP/1.1\r\nA: b\r\n c",
        "GET / HTTP/1.1\r\nA: b\r\n\tc", "GET / HTTP/1.1\r\n A: b\r\n"}) {
    std::size_t scanned = 0;
    EXPECT_EQ(scan_head(bytes, scanned), HeadScan::bad) << bytes;
  }
}

TEST(ParseRequestHead, ReadsWhatAHandlerNeeds) {
  const MessageHead head = parse_request_head(
      "POST /v1/files?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX:  y \r\nExpect: 100-Continue\r\n"
      "Connection: a, Close\r\n\r\n");
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.target, "/v1/files?x=1");
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_EQ(head.headers.find("x"), "y");
  EXPECT_TRUE(head.expect_continue);
  EXPECT_TRUE(head.close);
  EXPECT_FALSE(head.chunked);
}

TEST(ParseRequestHead, RefusesWhatTwoReadersCouldReadInTwoWays) {
  for (const char* head : {
           "GET / HTTP/1.1\r\n\r\n",  // no Host
           "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
           "chunked\r\n\r\n",
           "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
           "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
           "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
           "GET /\r\n\r\n",
           "\x16\x03\x01\r\n\r\n",
       }) {
    try {
      parse_request_head(head);
      ADD_FAILURE() << "accepted: " << head;
    } catch (const HttpError& e) {
      EXPECT_EQ(e.status(), 400) << head << e.what();
    }
  }
}

TEST(ParseRequestHead, LimitsTheNumberOfFields) {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 300; ++i) head += "a:\r\n";
  EXPECT_THROW(parse_request_head(head + "\r\n"), HttpError);
}

// The content of a chunked body that arrives `step` bytes at a time; "…" when it never ends.
std::string decode_chunks(std::string_view bytes, std::size_t step) {
  ChunkDecoder chunks;
  std::string content;
  std::size_t begin = 0, end = 0;
  while (!chunks.done()) {
    const ChunkDecoder::Step s = chunks.next(bytes.substr(begin, end - begin));
    EXPECT_LE(s.consumed, end - begin);
    content += s.piece;
    begin += s.consumed;
    if (!s.piece.empty() || chunks.done()) continue;
    if (end == bytes.size()) return content + "…";
    end = std::min(end + step, bytes.size());
  }
  return content + std::string(bytes.substr(begin));
}

TEST(ChunkDecoder, GivesTheContentHoweverTheBytesArrive) {
  for (std::size_t step = 1; step < 60; ++step) {
    EXPECT_EQ(decode_chunks("5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\n\r\nnext", 99).substr(0, 15), "hello worldnext");
    EXPECT_EQ(decode_chunks("5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n", step), "hello world") << step;
    EXPECT_EQ(decode_chunks("5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", step), "hello") << step;
    EXPECT_EQ(decode_chunks("0005 ;a\r\nhello\r\nA \t;x\r\n 23456789\n\r\n0;b\r\n\r\n", step), "hello 23456789\n")
        << step;
    EXPECT_EQ(decode_chunks("5\r\nhello\r\n0\r\n", step), "hello…") << step;
  }
}

TEST(ChunkDecoder, RefusesWhatIsNoChunk) {
  const std::string nul(1, '\0');
  for (const std::string& bytes : {
           std::string("x\r\n"),
           std::string("\r\n"),
           std::string("-5\r\nhello\r\n0\r\n\r\n"),
           std::string("+5\r\nhello\r\n0\r\n\r\n"),
           std::string("0x5\r\nhello\r\n0\r\n\r\n"),
           std::string("5_\r\nhello\r\n0\r\n\r\n"),
           std::string(" 5\r\nhello\r\n0\r\n\r\n"),
           std::string("5 \r\nhello\r\n0\r\n\r\n"),
           std::string("5 5\r\nhello\r\n"),
           std::string("fffffffffffffffff\r\n"),
           std::string("10000000000000005\r\nhello\r\n0\r\n\r\n"),
           // Longer or shorter than they say.
           std::string("5\r\nhelloX\r\n0\r\n\r\n"),
           std::string("5\r\nhello0\r\n\r\n"),
           std::string("5\r\nhell\r\n0\r\n\r\n"),
           // Lines that others may end elsewhere.
           std::string("5\nhello\r\n0\r\n\r\n"),
           std::string("5\r\nhello\n0\r\n\r\n"),
           std::string("5;a\nb\r\nhello\r\n0\r\n\r\n"),
           std::string("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
           std::string("5;a\rb\r\nhello\r\n0\r\n\r\n"),
           "5;" + nul + "\r\nhello\r\n0\r\n\r\n",
           std::string("0\n\r\n"),
           std::string("0\r\n\n"),
           std::string("0\r\nA: b\n\r\n"),
           // Trailers.
           std::string("0\r\nA\r\n\r\n"),
           std::string("0\r\n: b\r\n\r\n"),
           std::string("0\r\nA : b\r\n\r\n"),
           std::string("0\r\nA: b\r\n c\r\n\r\n"),
           std::string("0\r\nA: b\r\n\tc: d\r\n\r\n"),
           "0\r\nA: " + nul + "\r\n\r\n",
       }) {
    for (const std::size_t step : {1, 2, 3, 99}) EXPECT_THROW(decode_chunks(bytes, step), HttpError) << step << bytes;
  }
  std::string trailers = "0\r\n";
  for (int i = 0; i < 5'000; ++i) trailers += "A: b\r\n";
  EXPECT_THROW(decode_chunks(trailers + "\r\n", 99'999), HttpError);
  EXPECT_THROW(decode_chunks("5;" + std::string(20'000, 'a') + "\r\n", 99'999), HttpError);
  EXPECT_THROW(decode_chunks("5;" + std::string(20'000, 'a'), 99'999), HttpError);
  EXPECT_THROW(decode_chunks("0\r\nA: " + std::string(20'000, 'a'), 99'999), HttpError);
}

}  // namespace
}  // namespace penstock
