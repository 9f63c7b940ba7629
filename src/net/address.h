#pragma once
#include <array>
#include <boost/asio/ip/address.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

// Which addresses may be called for somebody who only names them. A URL out of a request must not reach what stands
// beside this server: its own ports, the machines of its network, a cloud's metadata.
namespace penstock {

namespace asio = boost::asio;

// Whether it is an address of the public Internet by the registries of IANA for special purposes (RFC 6890 and what has
// been added). One that stands for an IPv4 address (mapped, NAT64) is what that one is; 6to4 and Teredo, which do too,
// are never public, as nobody is to be found there any more.
bool is_public(const asio::ip::address& address);

using Addresses = std::vector<asio::ip::address>;

// Those of this machine's interfaces, at this moment. Throws std::system_error.
Addresses own_addresses();

// All addresses that begin with the same bits, such as 10.0.0.0/8 or fd00::/8. A mapped IPv4 address is the same as
// that one.
class AddressBlock {
 public:
  // An address alone is a block of one.
  static Result<AddressBlock> parse(std::string_view text);
  bool contains(const asio::ip::address& address) const;

 private:
  std::array<unsigned char, 16> bytes_{};  // as IPv6
  int bits_ = 128;
};

// Who may be called besides the public Internet: names of hosts, `*.` and a domain, addresses and blocks of them.
class AllowList {
 public:
  AllowList() = default;
  // The error names the entry that is none of these.
  static Result<AllowList> parse(const std::vector<std::string>& entries);

  // For HttpClient::Options::admit, when `host` is to be called: empty, so every address, for a host that is named
  // here; else true for those of the blocks, and for public addresses that are not `own`, as a firewall may hide ports
  // of this machine that it reaches itself.
  std::function<bool(const asio::ip::address&)> admit(std::string_view host, Addresses (*own)() = own_addresses) const;

 private:
  std::vector<std::string> hosts_;    // in lower case
  std::vector<std::string> domains_;  // ".example.com"
  std::vector<AddressBlock> blocks_;
};

}  // namespace penstock
