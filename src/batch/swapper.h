#pragma once
#include <set>

#include "engine/managed_engine.h"
#include "store/db.h"

namespace penstock {

// One device's models, as choose_model() sees them.
struct DeviceView {
  std::vector<std::string> models;  // that had the device longest ago first; before, in the configuration's order
  std::set<std::string> broken;     // whose engines do not start, and are not tried now
  std::set<std::string> to_retry;   // whose engines did not start, and are to be tried once more
  std::string loaded;               // or being loaded; empty: none
  bool overdue = false;             // others have waited for as long as they are to
};

struct ModelChoice {
  std::string model;       // that the device should have
  bool contested = false;  // another waits with work that counts as much
};

// Priority orders the work of a project: of each, what has its highest priority counts, and that of all projects alike.
// The loaded model stays while it has such work, and until others that have are overdue, when that is next which had
// the device longest ago, or are to be tried once more. Else the first in the queue is next, or, where projects'
// priorities differ, which had the device longest ago; of those that are not broken. The queue is in the order of
// priority.
ModelChoice choose_model(const DeviceView& device, const std::vector<Demand>& queue);

// Decides which of the models that share a device is loaded, by what is in the queue; models of other devices run side
// by side. To swap is to let the lines under way end, to stop the program, so that the device's memory is free, and to
// start the other. Loop thread only; the referenced parts must outlive it.
class Swapper {
 public:
  // After `swap_after` a model gives its device to another whose work counts as much. 0: never. One that loads
  // keeps it for longer, but not for ever.
  Swapper(asio::io_context& loop, Clock& clock, Db& db, Millis swap_after);

  // Engines of one device, none of them wanted yet, in the order of the configuration. Before start().
  void add_device(std::string name, std::vector<ManagedEngine*> engines);
  void start();
  Task<> stop();
  // The queue or an engine has changed.
  void wake() { wake_.notify(); }

 private:
  struct Device {
    std::string name;
    std::vector<ManagedEngine*> engines;  // as DeviceView::models
    ManagedEngine* loaded = nullptr;
    bool has_served = false;                // the loaded one, since it is
    std::optional<Moment> contested_since;  // begun anew when it serves
    std::set<ManagedEngine*> retried;       // since they are hopeless
  };
  Task<> run();
  void look(Device& device, const std::vector<Demand>& queue, bool more_to_come);
  Moment overdue_at(const Device& device) const;

  Clock& clock_;
  Db& db_;
  Millis swap_after_;
  std::vector<Device> devices_;
  Event wake_;
  TaskGroup tasks_;
};

}  // namespace penstock
