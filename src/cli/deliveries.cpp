#include "cli/commands.h"
#include "cli/operator.h"
#include "model/wire_webhooks.h"
#include "store/outbox.h"

namespace penstock {
namespace {

constexpr std::int64_t kListedMax = 1'000;

std::string next_text(const Delivery& delivery) {
  if (delivery.status != DeliveryStatus::pending) return "-";
  return delivery.owner ? "now" : time_text(delivery.next_at);
}

}  // namespace

int deliveries_list(const Config& config, const AccessOptions& options) {
  DeliveryQuery query{.project = std::nullopt, .limit = kListedMax};
  if (options.project) query.project = ProjectId{*options.project};
  if (options.status) query.status = parse_delivery_status(*options.status);
  if (options.batch) query.batch = BatchId{*options.batch};
  OperatorDatabase database(config, false);
  const auto page = database.write([&](Store& store) { return Outbox(store).list(query).value(); });
  if (page.has_more) {
    fmt::print(stderr, "These are the newest {}; --status, --batch and --project narrow the list.\n", kListedMax);
  }
  if (options.json) {
    std::vector<std::string> items;
    for (const Delivery& one : page.items) items.push_back(wire::to_json(one));
    fmt::print("{}\n", wire::list(items, page.items.empty() ? "" : page.items.front().id.value,
                                  page.items.empty() ? "" : page.items.back().id.value, page.has_more));
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows{
      {"ID", "PROJECT", "BATCH", "TO", "STATUS", "ATTEMPTS", "NEXT", "LAST ERROR"}};
  for (const Delivery& one : page.items) {
    rows.push_back({one.id.value, one.project.value, one.batch_id.value, one.destination,
                    std::string(to_string(one.status)), std::to_string(one.attempts), next_text(one),
                    one.last_error.value_or("-")});
  }
  print_table(rows);
  return kExitOk;
}

int deliveries_retry(const Config& config, const AccessOptions& options) {
  OperatorDatabase database(config, false);
  const DeliveryId id{*options.id};
  const Delivery delivery = done(database.write([&](Store& store) {
    Outbox outbox(store);
    auto result = outbox.retry(outbox.project_of(id).value_or(kDefaultProject), id, wall_clock());
    if (result && !result->owner) audit(store, result->project, "delivery.retried", id.value);
    return result;
  }));
  if (options.json) fmt::print("{}\n", wire::to_json(delivery));
  fmt::print(stderr, "{} is {}\n", id.value,
             delivery.owner ? "under way" : "due; a server that runs sends it within 5 seconds");
  return kExitOk;
}

int deliveries_delete(const Config& config, const AccessOptions& options) {
  OperatorDatabase database(config, false);
  const DeliveryId id{*options.id};
  done(database.write([&](Store& store) -> Result<void> {
    Outbox outbox(store);
    const auto project = outbox.project_of(id);
    if (!project) return no_such_delivery(id);
    outbox.remove(*project, id);
    audit(store, *project, "delivery.deleted", id.value);
    return {};
  }));
  if (options.json) fmt::print("{}\n", wire::deleted_delivery(id));
  fmt::print(stderr, "{} is deleted\n", id.value);
  return kExitOk;
}

}  // namespace penstock
