#include "net/lookup.h"

#include <atomic>
#include <boost/system/system_error.hpp>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace penstock {
namespace {

using asio::ip::tcp;
using boost::system::error_code;

FoundAddresses endpoints(const tcp::resolver::results_type& found) {
  FoundAddresses all;
  for (const auto& entry : found) all.push_back(entry.endpoint());
  return all;
}

struct Lookup {
  explicit Lookup(asio::io_context& loop) : done(loop) {}
  Event done;
  error_code error;
  FoundAddresses found;
};

// One of the places for lookups apart.
class Place {
 public:
  Place() {
    if (++taken_ <= kLookupsApartMax) return;
    --taken_;
    throw std::runtime_error("too many names are being looked up");
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { --taken_; }

 private:
  static inline std::atomic<int> taken_{0};
};

// What a waiter and its thread share, and the last of them destroys.
struct LookupApart {
  const Place place;
  error_code error;
  FoundAddresses found;
  std::mutex mutex;
  Event* done = nullptr;  // of the waiter, until it leaves: as long as it is there, so is its loop
};

// The waiter's stay. Ends with its coroutine, which the end of the loop destroys too.
class Stay {
 public:
  Stay(LookupApart& lookup, Event& done) : lookup_(lookup) { lookup_.done = &done; }
  Stay(const Stay&) = delete;
  Stay& operator=(const Stay&) = delete;
  ~Stay() {
    const std::lock_guard lock(lookup_.mutex);
    lookup_.done = nullptr;
  }

 private:
  LookupApart& lookup_;
};

void run_apart(const std::shared_ptr<LookupApart>& lookup, asio::io_context& waiters_loop, const std::string& host,
               const std::string& port) {
  asio::io_context own;
  lookup->found = endpoints(tcp::resolver(own).resolve(host, port, lookup->error));
  const std::lock_guard lock(lookup->mutex);
  if (!lookup->done) return;
  asio::post(waiters_loop, [lookup] {
    if (lookup->done) lookup->done->notify();
  });
}

}  // namespace

Task<FoundAddresses> look_up(asio::io_context& loop, Clock& clock, const std::string& host, const std::string& port,
                             Moment deadline) {
  const auto lookup = std::make_shared<Lookup>(loop);
  tcp::resolver resolver(loop);  // the waiter's, who so cancels the lookup when it leaves
  resolver.async_resolve(host, port, [lookup](error_code error, const tcp::resolver::results_type& found) {
    lookup->error = error;
    lookup->found = endpoints(found);
    lookup->done.notify();
  });
  const bool in_time = co_await lookup->done.wait_until(clock, deadline);
  if (!in_time) throw boost::system::system_error(asio::error::timed_out);
  if (lookup->error) throw boost::system::system_error(lookup->error);
  co_return std::move(lookup->found);
}

Task<FoundAddresses> look_up_apart(asio::io_context& loop, Clock& clock, const std::string& host,
                                   const std::string& port, Moment deadline) {
  Event done(loop);
  const auto lookup = std::make_shared<LookupApart>();
  const Stay stay(*lookup, done);
  // Detached: the end of the process waits for no name server.
  std::thread([=, &loop] { run_apart(lookup, loop, host, port); }).detach();
  const bool in_time = co_await done.wait_until(clock, deadline);
  if (!in_time) throw boost::system::system_error(asio::error::timed_out);
  if (lookup->error) throw boost::system::system_error(lookup->error);
  co_return std::move(lookup->found);
}

}  // namespace penstock
