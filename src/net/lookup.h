#pragma once
#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <vector>

#include "base/async.h"

// Addresses of hosts. A lookup cannot be interrupted, and takes half a minute when no name server answers: whoever
// stops waiting leaves it behind. Both throw boost::system::system_error, of timed_out when `deadline` comes first.
namespace penstock {

using FoundAddresses = std::vector<asio::ip::tcp::endpoint>;

// For names out of the configuration. A loop looks up one after the other, and skips those for which nobody waits.
Task<FoundAddresses> look_up(asio::io_context& loop, Clock& clock, const std::string& host, const std::string& port,
                             Moment deadline);

// For names that clients of this server chose, and whose name server may be theirs: each on a thread of its own, so
// that it holds up no other. When kLookupsApartMax are under way, those that were left behind among them, throws
// runtime_error at once.
constexpr int kLookupsApartMax = 64;
Task<FoundAddresses> look_up_apart(asio::io_context& loop, Clock& clock, const std::string& host,
                                   const std::string& port, Moment deadline);

}  // namespace penstock
