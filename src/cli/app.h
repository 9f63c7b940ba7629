#pragma once
#include <string>

#include "api/metrics_page.h"
#include "api/monitor.h"
#include "base/disk.h"
#include "batch/fleet.h"
#include "batch/swapper.h"
#include "cli/config.h"
#include "delivery/sink_sender.h"

namespace penstock {

// Another process has the data directory.
class DataInUse : public UsageError {
 public:
  using UsageError::UsageError;
};

// The data directory: made when it is missing, and ours alone while this lives. Throws UsageError when it cannot be
// used, DataInUse when another process has it.
class DataDirectory {
 public:
  explicit DataDirectory(const std::string& path);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string database() const { return path_ + "/penstock.db"; }
  std::string blobs() const { return path_ + "/blobs"; }
  std::string logs() const { return path_ + "/logs"; }  // of managed engines
  // A folder for sockets, short enough for their addresses.
  const std::string& sockets() const { return sockets_; }

 private:
  std::string path_, sockets_;
  int lock_ = -1;
  bool own_sockets_ = false;
};

// All parts of a server, a worker or a run, wired together. It only constructs, starts and stops.
class App {
 public:
  // Throws UsageError when the configuration cannot work.
  App(asio::io_context& loop, const Config& config);

  // Clears up after an earlier process, goes on with unfinished batches, and starts the engines.
  Task<> start();
  // Takes no new work from now on; lines under way have `patience` to end, then what is held is given back. Everything
  // else can still be asked.
  Task<> drain(Millis patience);
  // After drain(), when nobody asks any more.
  Task<> stop();

  Services& services() { return services_; }
  const std::string& data_path() const { return data_.path(); }

 private:
  Task<> check_place();
  Task<> sweep();
  Task<> keep_swept();
  void add_engines(asio::io_context& loop, const Config& config);
  void add_models(asio::io_context& loop, const Config& config);

  asio::io_context& loop_;
  const std::string process_ = random_id("process_");
  const bool shares_database_, shares_blobs_;  // with other processes, perhaps
  DataDirectory data_;
  SystemClock clock_;
  Db db_;
  const std::string place_;  // of the blobs
  std::unique_ptr<BlobStore> blobs_;
  asio::thread_pool io_;
  Engines engines_;
  Estimator estimator_;
  const std::unique_ptr<Tracer> tracer_;    // none when nothing is traced
  std::unique_ptr<Dispatcher> dispatcher_;  // none without a worker
  Lifecycle lifecycle_;
  Fleet fleet_;
  Deliveries deliveries_;
  SinkSender* sinks_ = nullptr;  // in there
  const AllowList webhook_allow_;
  Swapper swapper_;
  Expiry expiry_;
  Authenticator authenticator_;
  Services services_;
  MetricsPage metrics_;
  Monitor monitor_;
  DiskWatch disk_;
  TaskGroup tasks_;
};

}  // namespace penstock
