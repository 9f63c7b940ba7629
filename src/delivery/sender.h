#pragma once
#include "base/async.h"
#include "model/delivery.h"

namespace penstock {

// How an attempt at a delivery went. `why` is in our own words and for the receiver's owner: nothing of what the far
// side answered, and nothing of our network.
struct Outcome {
  enum class Kind {
    delivered,
    again,  // by the schedule
    never,  // no attempt can go well
    gone    // as `never`, and the receiver wants nothing any more
  } kind = Kind::delivered;
  std::string why = {};
  std::optional<Millis> retry_after = {};  // with `again`: not before
  std::string url = {};                    // with `gone`: what has said so
};

// What a long attempt keeps of its way, for the next one to go on from.
class DeliveryProgress {
 public:
  virtual ~DeliveryProgress() = default;
  // Makes Delivery::position durable. False: end the attempt. It has had its time, and the next one goes on from there;
  // or the delivery is another process's by now, or was deleted.
  virtual Task<bool> note(std::int64_t position) = 0;
};

// What takes deliveries of one kind to their receivers. Loop thread only.
class Sender {
 public:
  virtual ~Sender() = default;
  // One attempt, that ends by itself within a limit of its own. An exception counts as `again`. Cancelled at the end of
  // the process: the same delivery is sent again by another one then, or after a restart.
  virtual Task<Outcome> send(const Delivery& delivery, DeliveryProgress& progress) = 0;
};

}  // namespace penstock
