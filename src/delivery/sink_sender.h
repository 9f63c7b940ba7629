#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "delivery/sender.h"
#include "delivery/sink.h"
#include "net/address.h"
#include "store/db.h"

namespace penstock {

// Takes the results of ended batches to the sinks that the operator has configured, and by HTTP to URLs that batches
// named themselves. Each attempt goes on where those before have come to; what was on its way then is brought again, as
// the same lines with the same ids. Files that were deleted meanwhile cannot be delivered any more.
class SinkSender final : public Sender {
 public:
  struct Options {
    std::vector<SinkOptions> sinks;
    AllowList allow;                // what URLs of batches may name besides public addresses
    std::string scratch_directory;  // for what is on its way to S3
    std::string log_directory;      // for what commands print
  };
  // Throws UsageError, with the name of the sink that cannot work.
  SinkSender(asio::io_context& loop, Clock& clock, Db& db, const BlobStore& blobs, Options options);

  Task<Outcome> send(const Delivery& delivery, DeliveryProgress& progress) override;
  // When no send() is under way any more.
  Task<> stop();

 private:
  struct Entry {
    bool output = true, errors = true;
    std::unique_ptr<Sink> sink;
  };
  std::unique_ptr<Sink> make(const SinkOptions& options);
  Task<Outcome> bring(Sink& sink, SinkAttempt attempt, std::string name);

  asio::io_context& loop_;
  Clock& clock_;
  Db& db_;
  const BlobStore& blobs_;
  const Options options_;
  asio::thread_pool pool_{4};  // what a far side keeps waiting must not keep others waiting
  std::map<std::string, Entry> sinks_;
};

}  // namespace penstock
