// A URL that somebody wants to be called, and whether its host may be. Input: the URL in the first line; then an entry
// of the list of hosts that may be called besides the public ones.
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

#include "fuzz.h"
#include "net/address.h"
#include "net/endpoint.h"

namespace penstock {
namespace {

struct Range {
  std::uint32_t first, last;
};
constexpr Range kSpecial[] = {
    {0x00000000, 0x00ffffff}, {0x0a000000, 0x0affffff}, {0x64400000, 0x647fffff}, {0x7f000000, 0x7fffffff},
    {0xa9fe0000, 0xa9feffff}, {0xac100000, 0xac1fffff}, {0xc0000000, 0xc00000ff}, {0xc0000200, 0xc00002ff},
    {0xc0586300, 0xc05863ff}, {0xc0a80000, 0xc0a8ffff}, {0xc6120000, 0xc613ffff}, {0xc6336400, 0xc63364ff},
    {0xcb007100, 0xcb0071ff}, {0xe0000000, 0xffffffff},
};

bool is_public_number(std::uint32_t number) {
  return std::none_of(std::begin(kSpecial), std::end(kSpecial),
                      [&](const Range& range) { return range.first <= number && number <= range.last; });
}

// The same rules once more, by other means.
bool expected_public(const asio::ip::address& address) {
  if (address.is_v4()) return is_public_number(address.to_v4().to_uint());
  const auto bytes = address.to_v6().to_bytes();
  const auto part = [&](int i) { return static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]); };
  const bool zeros = part(2) == 0 && part(3) == 0 && part(4) == 0;
  const bool mapped = part(0) == 0 && part(1) == 0 && zeros && part(5) == 0xffff;
  const bool nat64 = part(0) == 0x64 && part(1) == 0xff9b && zeros && part(5) == 0;
  if (mapped || nat64) return is_public_number(part(6) << 16 | part(7));
  if (part(0) < 0x2000 || part(0) > 0x3fff || part(0) == 0x2002) return false;
  return !(part(0) == 0x2001 && (part(1) < 0x200 || part(1) == 0xdb8)) && !(part(0) == 0x3fff && part(1) < 0x1000);
}

// What the resolver makes of a host that is an address in any spelling, such as 0x7f.1.
std::optional<asio::ip::address> numeric(std::string host) {
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  addrinfo hints{}, *found = nullptr;
  hints.ai_flags = AI_NUMERICHOST;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return std::nullopt;
  std::optional<asio::ip::address> address;
  if (found->ai_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, found->ai_addr, sizeof v4);
    address = asio::ip::address_v4(ntohl(v4.sin_addr.s_addr));
  } else {
    sockaddr_in6 v6;
    std::memcpy(&v6, found->ai_addr, sizeof v6);
    asio::ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    address = asio::ip::address_v6(bytes);
  }
  ::freeaddrinfo(found);
  return address;
}

void check_url(std::string_view url) {
  const auto call = CallUrl::parse(url);
  if (!call) return;
  const auto& [endpoint, target] = *call;
  const std::string said = endpoint.host + endpoint.port + target;
  require(std::all_of(said.begin(), said.end(), [](char c) { return c > ' ' && c < 0x7f; }), "it is a URL in ASCII");
  require(!endpoint.host.empty() && endpoint.host.find_first_of("@/?#") == std::string::npos, "the host is one");
  require(target.starts_with('/') && target.find('#') == std::string::npos, "the target is a path and a query");
  require(endpoint.unix_path.empty() && endpoint.base_path.empty(), "it is called where it says");

  const std::string scheme = endpoint.tls ? "https://" : "http://";
  const auto again = CallUrl::parse(scheme + endpoint.host + ":" + endpoint.port + target);
  require(again && again->endpoint.host == endpoint.host && again->endpoint.port == endpoint.port &&
              again->endpoint.tls == endpoint.tls && again->target == target,
          "what was read can be written and read again");

  if (const auto address = numeric(endpoint.host)) {
    const auto admit = AllowList().admit(endpoint.host);
    require(admit && admit(*address) == expected_public(*address), "an address may be called when it is public");
  }
}

void check_entry(const std::string& entry, std::string_view url) {
  const auto list = AllowList::parse({entry});
  if (!list) return;
  if (const auto block = AddressBlock::parse(entry)) {
    const auto first = asio::ip::make_address(entry.substr(0, entry.find('/')));
    require(block->contains(first), "a block holds the address that names it");
    require(list->admit("a.example")(first), "and it may be called");
  } else if (entry.starts_with("*.")) {
    require(!list->admit("x" + entry.substr(1)), "a host of a domain may be called");
    require(bool(list->admit(entry.substr(2))), "the domain itself is another host");
  } else {
    require(!list->admit(entry), "a host that is named may be called");
    require(bool(list->admit(entry + "x")) && bool(list->admit("x" + entry)), "another may not");
  }
  if (const auto call = CallUrl::parse(url)) list->admit(call->endpoint.host);
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace penstock;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view url = take_line(rest), entry = take_line(rest);
  check_url(url);
  check_entry(std::string(entry), url);
  return 0;
}
