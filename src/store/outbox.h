#pragma once
#include "model/delivery.h"
#include "store/store.h"

namespace penstock {

struct ClaimLimits {
  std::int64_t total, per_project, per_destination;
};

struct DeliveryQuery {
  std::optional<ProjectId> project = kDefaultProject;  // none: of all of them
  std::optional<DeliveryStatus> status = std::nullopt;
  std::optional<BatchId> batch = std::nullopt;
  std::optional<DeliveryId> after = std::nullopt;
  std::int64_t limit = 20;
};

// Webhook endpoints, and what is to be told or brought to whom: statements of a store, for use as Store's own are.
//
// A delivery is held by the process that attempts it, as a span is, until that has an outcome or was buried. `attempts`
// is the fencing number: an attempt's writes are refused when the row has another owner or has begun another attempt.
class Outbox {
 public:
  explicit Outbox(Store& store) : sql_(store.connection()) {}

  // --- deliveries
  // One delivery to each receiver that asked for the end of this batch, which has ended in this transaction.
  void announce(const Batch& batch, Timestamp now);
  void insert(const Delivery& delivery);
  // Up to `total` that are due become the owner's, and an attempt at each begins; at most `per_project` and
  // `per_destination` of each are its own then. Of sinks with a name only these.
  std::vector<Delivery> claim(const std::string& owner, const ClaimLimits& limits, Timestamp now,
                              const std::vector<std::string>& sinks = {});
  std::vector<Delivery> held(const std::string& owner);
  // When the first of those that nobody holds, of sinks with a name only these, falls due after `now`.
  std::optional<Timestamp> next_due(Timestamp now, const std::vector<std::string>& sinks = {});
  // False, and nothing is changed, when the attempt is not the owner's any more. So for all four.
  bool note(const Delivery& attempt, std::int64_t position);
  // pending -> delivered, or -> dead with a reason.
  bool end(const Delivery& attempt, DeliveryStatus status, const std::optional<std::string>& why, Timestamp now);
  // `failures` are the attempt's from now on.
  bool try_again(const Delivery& attempt, const std::string& why, Timestamp next);
  // The attempt has come further and had its time: due again now, and what failed before does not count any more.
  bool go_on(const Delivery& attempt, Timestamp now);
  // The attempt did not take place, or was broken off by us; the delivery is due again.
  void give_back(const Delivery& attempt);
  // What that process holds is free for others.
  void release(const std::string& owner);
  // Those that were due by then die when their sink is none of these, and nobody holds them.
  void bury_unclaimed(Timestamp due_by, const std::vector<std::string>& sinks, Timestamp now);
  // Removes those that were delivered, or died, by then.
  void purge(Timestamp delivered_by, Timestamp dead_by);

  std::optional<Delivery> find(const ProjectId& project, const DeliveryId& id);
  // For those who may see to the deliveries of all.
  std::optional<ProjectId> project_of(const DeliveryId& id);
  // Newest first. Error not_found when `after` is unknown.
  Result<Page<Delivery>> list(const DeliveryQuery& query);
  // Of all these batches, the oldest first.
  std::vector<Delivery> of_batches(const std::vector<BatchId>& ids);
  // Due now, unless it is under way. A dead one begins anew with its schedule. Error not_found, or conflict when it was
  // delivered.
  Result<Delivery> retry(const ProjectId& project, const DeliveryId& id, Timestamp now);
  // False when there is none.
  bool remove(const ProjectId& project, const DeliveryId& id);

  // --- endpoints
  // How many the project has, and until the end of the transaction only this one makes more.
  std::int64_t lock_endpoints(const ProjectId& project);
  void insert_endpoint(const WebhookEndpoint& endpoint);
  std::optional<WebhookEndpoint> find_endpoint(const ProjectId& project, const EndpointId& id);
  // As find_endpoint(), to change it: until the end of the transaction nobody else does.
  std::optional<WebhookEndpoint> take_endpoint(const ProjectId& project, const EndpointId& id);
  // Newest first. Error not_found when `after` is unknown.
  Result<Page<WebhookEndpoint>> list_endpoints(const ProjectId& project, const std::optional<EndpointId>& after,
                                               std::int64_t limit);
  // After take_endpoint(). All but id, project and created_at become these. False when there is none.
  bool update_endpoint(const WebhookEndpoint& endpoint);
  // The endpoint of that delivery has said at this URL that it is gone, unless it has another one by now.
  void disable_endpoint(const Delivery& delivery, const std::string& url, Timestamp now);
  bool remove_endpoint(const ProjectId& project, const EndpointId& id);

 private:
  sql::Connection& sql_;
};

Error no_such_delivery(const DeliveryId& id, std::string param = "id");
Error no_such_endpoint(const EndpointId& id, std::string param = "id");

}  // namespace penstock
