#include "net/address.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

namespace penstock {
namespace {

using asio::ip::address;
using asio::ip::address_v4;
using asio::ip::address_v6;

address_v6 as_v6(const address& a) {
  return a.is_v6() ? a.to_v6() : asio::ip::make_address_v6(asio::ip::v4_mapped, a.to_v4());
}

std::vector<AddressBlock> blocks(std::initializer_list<const char*> texts) {
  std::vector<AddressBlock> all;
  for (const char* text : texts) all.push_back(AddressBlock::parse(text).value());
  return all;
}

bool is_in(const std::vector<AddressBlock>& all, const address& a) {
  return std::any_of(all.begin(), all.end(), [&](const AddressBlock& block) { return block.contains(a); });
}

bool is_public_v4(const address_v4& a) {
  static const std::vector<AddressBlock> special = blocks({
      "0.0.0.0/8",        // this network
      "10.0.0.0/8",       // private
      "100.64.0.0/10",    // a carrier's NAT
      "127.0.0.0/8",      // loopback
      "169.254.0.0/16",   // link-local, metadata of clouds among them
      "172.16.0.0/12",    // private
      "192.0.0.0/24",     // protocols of the IETF
      "192.0.2.0/24",     // documentation
      "192.88.99.0/24",   // 6to4
      "192.168.0.0/16",   // private
      "198.18.0.0/15",    // benchmarks
      "198.51.100.0/24",  // documentation
      "203.0.113.0/24",   // documentation
      "224.0.0.0/4",      // multicast
      "240.0.0.0/4",      // reserved, and broadcast
  });
  return !is_in(special, a);
}

// The last four bytes, where the address stands for that of IPv4.
std::optional<address_v4> embedded_v4(const address_v6& a) {
  static const std::vector<AddressBlock> wrapping = blocks({"::ffff:0:0/96", "64:ff9b::/96"});
  if (!is_in(wrapping, a)) return std::nullopt;
  const auto bytes = a.to_bytes();
  return address_v4({bytes[12], bytes[13], bytes[14], bytes[15]});
}

bool is_public_v6(const address_v6& a) {
  static const std::vector<AddressBlock> global = blocks({"2000::/3"});
  static const std::vector<AddressBlock> special = blocks({
      "2001::/23",      // protocols of the IETF: Teredo, benchmarks, ORCHID
      "2001:db8::/32",  // documentation
      "2002::/16",      // 6to4
      "3fff::/20",      // documentation
  });
  if (const auto v4 = embedded_v4(a)) return is_public_v4(*v4);
  return is_in(global, a) && !is_in(special, a);
}

// One and the same for all addresses that lead to one machine.
address_v6 plain(const address& a) {
  if (a.is_v6()) {
    if (const auto v4 = embedded_v4(a.to_v6())) return as_v6(*v4);
  }
  return address_v6(as_v6(a).to_bytes());  // without the interface
}

bool is_one_of(const Addresses& all, const address& a) {
  return std::any_of(all.begin(), all.end(), [&](const address& one) { return plain(one) == plain(a); });
}

std::string in_lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

// Letters, digits, '-', '_' and dots, and not an address that was misspelt: its last label has a letter.
bool is_host_name(std::string_view text) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_part = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  const std::string_view last = text.substr(text.rfind('.') + 1);
  return std::all_of(text.begin(), text.end(), is_part) && std::any_of(last.begin(), last.end(), is_letter) &&
         !text.starts_with('.') && text.find("..") == std::string_view::npos;
}

}  // namespace

bool is_public(const address& a) {
  return a.is_v4() ? is_public_v4(a.to_v4()) : is_public_v6(a.to_v6());
}

Addresses own_addresses() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) throw std::system_error(errno, std::generic_category(), "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, ::freeifaddrs);
  Addresses all;
  for (const ifaddrs* entry = first; entry; entry = entry->ifa_next) {
    if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET) {
      sockaddr_in v4;
      std::memcpy(&v4, entry->ifa_addr, sizeof v4);
      all.push_back(address_v4(ntohl(v4.sin_addr.s_addr)));
    } else if (entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 v6;
      std::memcpy(&v6, entry->ifa_addr, sizeof v6);
      address_v6::bytes_type bytes;
      std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
      all.push_back(address_v6(bytes));
    }
  }
  return all;
}

Result<AddressBlock> AddressBlock::parse(std::string_view text) {
  const Error bad{Error::Kind::invalid_request, fmt::format("'{}' is neither an address nor a block of them", text)};
  const std::size_t slash = std::min(text.find('/'), text.size());
  boost::system::error_code error;
  const address first = asio::ip::make_address(std::string(text.substr(0, slash)), error);
  if (error) return bad;
  const int size = first.is_v4() ? 32 : 128;
  int bits = size;
  if (slash < text.size()) {
    const char* const end = text.data() + text.size();
    const auto [parsed_to, failure] = std::from_chars(text.data() + slash + 1, end, bits);
    if (failure != std::errc{} || parsed_to != end || bits < 0 || bits > size) return bad;
  }
  AddressBlock block;
  block.bytes_ = as_v6(first).to_bytes();
  block.bits_ = 128 - size + bits;
  return block;
}

bool AddressBlock::contains(const address& a) const {
  const auto bytes = as_v6(a).to_bytes();
  const auto whole = static_cast<std::size_t>(bits_ / 8);
  if (!std::equal(bytes_.begin(), bytes_.begin() + whole, bytes.begin())) return false;
  const int rest = bits_ % 8;
  return rest == 0 || (bytes_[whole] ^ bytes[whole]) >> (8 - rest) == 0;
}

Result<AllowList> AllowList::parse(const std::vector<std::string>& entries) {
  AllowList list;
  for (const std::string& entry : entries) {
    const std::string name = in_lower_case(entry);
    if (const auto block = AddressBlock::parse(entry)) {
      list.blocks_.push_back(*block);
    } else if (name.starts_with("*.") && is_host_name(name.substr(2))) {
      list.domains_.push_back(name.substr(1));
    } else if (is_host_name(name)) {
      list.hosts_.push_back(name);
    } else {
      return Error{Error::Kind::invalid_request,
                   fmt::format("'{}': expected a host such as hooks.example.com or *.example.com, an address, or a "
                               "block of them such as 10.0.0.0/8",
                               entry)};
    }
  }
  return list;
}

std::function<bool(const address&)> AllowList::admit(std::string_view host, Addresses (*own)()) const {
  const std::string name = in_lower_case(host);
  const auto holds = [&](const std::string& domain) { return name.ends_with(domain); };
  if (std::find(hosts_.begin(), hosts_.end(), name) != hosts_.end() ||
      std::any_of(domains_.begin(), domains_.end(), holds)) {
    return {};
  }
  return [allowed = blocks_, own](const address& a) {
    return is_in(allowed, a) || (is_public(a) && !is_one_of(own(), a));
  };
}

}  // namespace penstock
