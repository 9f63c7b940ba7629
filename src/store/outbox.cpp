#include "store/outbox.h"

#include <fmt/format.h>

#include <boost/json.hpp>

#include "store/columns.h"

namespace penstock {
namespace {

namespace json = boost::json;

constexpr const char* kDeliveryColumns =
    "id, project, batch_id, kind, receiver, destination, event, body, status, attempts, failures, position, next_ms, "
    "owner,"
    " last_error, created_ms, ended_ms";

Delivery read_delivery(const sql::Row& row) {
  return {.id = {std::string(row.text(0))},
          .project = {std::string(row.text(1))},
          .batch_id = {std::string(row.text(2))},
          .kind = parse_delivery_kind(row.text(3)),
          .receiver = std::string(row.text(4)),
          .destination = std::string(row.text(5)),
          .event = std::string(row.text(6)),
          .body = std::string(row.text(7)),
          .status = parse_delivery_status(row.text(8)),
          .attempts = row.integer(9),
          .failures = row.integer(10),
          .position = row.integer(11),
          .next_at = from_ms(row.integer(12)),
          .owner = text_at(row, 13),
          .last_error = text_at(row, 14),
          .created_at = from_ms(row.integer(15)),
          .ended_at = time_at(row, 16)};
}

constexpr const char* kEndpointColumns =
    "id, project, name, url, event_types, secret, old_secret, old_secret_until_ms, created_ms, updated_ms, disabled_ms";

WebhookEndpoint read_endpoint(const sql::Row& row) {
  return {.id = {std::string(row.text(0))},
          .project = {std::string(row.text(1))},
          .name = std::string(row.text(2)),
          .url = std::string(row.text(3)),
          .event_types = json::value_to<std::vector<std::string>>(json::parse(row.text(4))),
          .secret = std::string(row.text(5)),
          .old_secret = text_at(row, 6),
          .old_secret_until = time_at(row, 7),
          .created_at = from_ms(row.integer(8)),
          .updated_at = from_ms(row.integer(9)),
          .disabled_at = time_at(row, 10)};
}

// Cuts what was asked for one more than the limit.
template <class T>
Page<T> page_of(std::vector<T> items, std::int64_t limit) {
  Page<T> page{std::move(items)};
  page.has_more = static_cast<std::int64_t>(page.items.size()) > limit;
  if (page.has_more) page.items.pop_back();
  return page;
}

// The condition for what a process with these sinks can send, whose names go behind `values`.
std::string reach(const std::vector<std::string>& sinks, std::vector<sql::Value>& values) {
  std::string names = "''";
  for (const std::string& name : sinks) {
    values.emplace_back(name);
    names += fmt::format(", ${}", values.size());
  }
  return fmt::format("(kind <> 'sink' OR destination LIKE '%:%' OR destination IN ({}))", names);
}

constexpr std::int64_t kNewest = std::numeric_limits<std::int64_t>::max();

}  // namespace

Error no_such_delivery(const DeliveryId& id, std::string param) {
  return {Error::Kind::not_found, fmt::format("No delivery found with id '{}'.", id.value), "", std::move(param)};
}

Error no_such_endpoint(const EndpointId& id, std::string param) {
  return {Error::Kind::not_found, fmt::format("No webhook endpoint found with id '{}'.", id.value), "",
          std::move(param)};
}

void Outbox::announce(const Batch& batch, Timestamp now) {
  std::vector<WebhookEndpoint> endpoints;
  sql_.execute(fmt::format("SELECT {} FROM webhook_endpoints WHERE project = $1 ORDER BY seq", kEndpointColumns),
               {batch.project.value}, [&](const sql::Row& row) { endpoints.push_back(read_endpoint(row)); });
  for (const Delivery& delivery : deliveries_of(batch, endpoints, now)) insert(delivery);
}

void Outbox::insert(const Delivery& d) {
  sql_.execute(fmt::format("INSERT INTO deliveries ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
                           " $14, $15, $16, $17)",
                           kDeliveryColumns),
               {d.id.value, d.project.value, d.batch_id.value, to_string(d.kind), d.receiver, d.destination, d.event,
                d.body, to_string(d.status), d.attempts, d.failures, d.position, to_ms(d.next_at), value_of(d.owner),
                value_of(d.last_error), to_ms(d.created_at), value_of(d.ended_at)});
}

std::vector<Delivery> Outbox::claim(const std::string& owner, const ClaimLimits& limits, Timestamp now,
                                    const std::vector<std::string>& sinks) {
  std::vector<sql::Value> values{owner, to_ms(now), limits.per_destination, limits.per_project, limits.total};
  const std::string within_reach = reach(sinks, values);
  std::vector<Delivery> claimed;
  // A project's places go to those only that its destinations have places for.
  sql_.execute(
      fmt::format("UPDATE deliveries SET owner = $1, attempts = attempts + 1 WHERE seq IN"
                  " (SELECT seq FROM deliveries WHERE owner IS NULL AND status = 'pending' AND seq IN"
                  "  (SELECT seq FROM"
                  "   (SELECT seq, project, next_ms, ROW_NUMBER() OVER (PARTITION BY project ORDER BY next_ms, seq)"
                  "     AS place FROM"
                  "    (SELECT seq, project, next_ms, ROW_NUMBER() OVER (PARTITION BY destination"
                  "      ORDER BY next_ms, seq) + (SELECT COUNT(*) FROM deliveries AS held"
                  "       WHERE held.owner = $1 AND held.destination = due.destination) AS place"
                  "     FROM deliveries AS due WHERE status = 'pending' AND owner IS NULL AND next_ms <= $2"
                  "      AND {}) AS of_destinations"
                  "    WHERE place <= $3) AS of_projects"
                  "   WHERE place + (SELECT COUNT(*) FROM deliveries AS held"
                  "     WHERE held.owner = $1 AND held.project = of_projects.project) <= $4"
                  "   ORDER BY next_ms, seq LIMIT $5)"
                  "  /*PG FOR UPDATE SKIP LOCKED*/) RETURNING {}",
                  within_reach, kDeliveryColumns),
      values, [&](const sql::Row& row) { claimed.push_back(read_delivery(row)); });
  return claimed;
}

std::vector<Delivery> Outbox::held(const std::string& owner) {
  std::vector<Delivery> all;
  sql_.execute(fmt::format("SELECT {} FROM deliveries WHERE owner = $1", kDeliveryColumns), {owner},
               [&](const sql::Row& row) { all.push_back(read_delivery(row)); });
  return all;
}

std::optional<Timestamp> Outbox::next_due(Timestamp now, const std::vector<std::string>& sinks) {
  std::vector<sql::Value> values{to_ms(now)};
  const std::string within_reach = reach(sinks, values);
  std::optional<Timestamp> due;
  sql_.execute(fmt::format("SELECT MIN(next_ms) FROM deliveries WHERE status = 'pending' AND owner IS NULL"
                           " AND next_ms > $1 AND {}",
                           within_reach),
               values, [&](const sql::Row& row) { due = time_at(row, 0); });
  return due;
}

bool Outbox::note(const Delivery& attempt, std::int64_t position) {
  return sql_.execute("UPDATE deliveries SET position = $1 WHERE id = $2 AND owner = $3 AND attempts = $4",
                      {position, attempt.id.value, value_of(attempt.owner), attempt.attempts}) == 1;
}

bool Outbox::end(const Delivery& attempt, DeliveryStatus status, const std::optional<std::string>& why, Timestamp now) {
  return sql_.execute(
             "UPDATE deliveries SET status = $1, last_error = $2, ended_ms = $3, owner = NULL"
             " WHERE id = $4 AND owner = $5 AND attempts = $6",
             {to_string(status), value_of(why), to_ms(now), attempt.id.value, value_of(attempt.owner),
              attempt.attempts}) == 1;
}

bool Outbox::try_again(const Delivery& attempt, const std::string& why, Timestamp next) {
  return sql_.execute(
             "UPDATE deliveries SET last_error = $1, next_ms = $2, failures = $3, owner = NULL"
             " WHERE id = $4 AND owner = $5 AND attempts = $6",
             {why, to_ms(next), attempt.failures, attempt.id.value, value_of(attempt.owner), attempt.attempts}) == 1;
}

bool Outbox::go_on(const Delivery& attempt, Timestamp now) {
  return sql_.execute(
             "UPDATE deliveries SET failures = 0, last_error = NULL, next_ms = $1, owner = NULL"
             " WHERE id = $2 AND owner = $3 AND attempts = $4",
             {to_ms(now), attempt.id.value, value_of(attempt.owner), attempt.attempts}) == 1;
}

void Outbox::give_back(const Delivery& attempt) {
  sql_.execute(
      "UPDATE deliveries SET attempts = attempts - 1, owner = NULL"
      " WHERE id = $1 AND owner = $2 AND attempts = $3",
      {attempt.id.value, value_of(attempt.owner), attempt.attempts});
}

void Outbox::release(const std::string& owner) {
  sql_.execute("UPDATE deliveries SET owner = NULL WHERE owner = $1", {owner});
}

void Outbox::bury_unclaimed(Timestamp due_by, const std::vector<std::string>& sinks, Timestamp now) {
  std::vector<sql::Value> values{to_ms(now), to_ms(due_by)};
  const std::string within_reach = reach(sinks, values);
  sql_.execute(fmt::format("UPDATE deliveries SET status = 'dead', ended_ms = $1,"
                           " last_error = 'no server or worker has a sink of that name'"
                           " WHERE status = 'pending' AND owner IS NULL AND next_ms <= $2 AND NOT {}",
                           within_reach),
               values);
}

void Outbox::purge(Timestamp delivered_by, Timestamp dead_by) {
  sql_.execute(
      "DELETE FROM deliveries WHERE ended_ms <= $1 AND"  // the later of the two, which the index knows
      " ended_ms <= CASE status WHEN 'delivered' THEN $1 ELSE $2 END",
      {to_ms(delivered_by), to_ms(dead_by)});
}

std::optional<Delivery> Outbox::find(const ProjectId& project, const DeliveryId& id) {
  std::optional<Delivery> found;
  sql_.execute(fmt::format("SELECT {} FROM deliveries WHERE id = $1 AND project = $2", kDeliveryColumns),
               {id.value, project.value}, [&](const sql::Row& row) { found = read_delivery(row); });
  return found;
}

std::optional<ProjectId> Outbox::project_of(const DeliveryId& id) {
  std::optional<ProjectId> project;
  sql_.execute("SELECT project FROM deliveries WHERE id = $1", {id.value},
               [&](const sql::Row& row) { project = ProjectId{std::string(row.text(0))}; });
  return project;
}

Result<Page<Delivery>> Outbox::list(const DeliveryQuery& query) {
  std::int64_t position = kNewest;
  if (query.after) {
    bool known = false;
    sql_.execute("SELECT seq, project FROM deliveries WHERE id = $1", {query.after->value}, [&](const sql::Row& row) {
      position = row.integer(0);
      known = !query.project || query.project->value == row.text(1);
    });
    if (!known) return no_such_delivery(*query.after, "after");
  }
  std::string statement = fmt::format("SELECT {} FROM deliveries WHERE seq < $1", kDeliveryColumns);
  std::vector<sql::Value> values{position};
  const auto also = [&](std::string_view column, std::string_view value) {
    values.emplace_back(value);
    statement += fmt::format(" AND {} = ${}", column, values.size());
  };
  if (query.project) also("project", query.project->value);
  if (query.status) also("status", to_string(*query.status));
  if (query.batch) also("batch_id", query.batch->value);
  values.emplace_back(query.limit + 1);
  statement += fmt::format(" ORDER BY seq DESC LIMIT ${}", values.size());
  std::vector<Delivery> found;
  sql_.execute(statement, values, [&](const sql::Row& row) { found.push_back(read_delivery(row)); });
  return page_of(std::move(found), query.limit);
}

std::vector<Delivery> Outbox::of_batches(const std::vector<BatchId>& ids) {
  std::vector<Delivery> all;
  if (ids.empty()) return all;
  std::string marks;
  std::vector<sql::Value> values;
  for (const BatchId& id : ids) {
    values.emplace_back(id.value);
    marks += fmt::format("{}${}", marks.empty() ? "" : ", ", values.size());
  }
  sql_.execute(fmt::format("SELECT {} FROM deliveries WHERE batch_id IN ({}) ORDER BY seq", kDeliveryColumns, marks),
               values, [&](const sql::Row& row) { all.push_back(read_delivery(row)); });
  return all;
}

Result<Delivery> Outbox::retry(const ProjectId& project, const DeliveryId& id, Timestamp now) {
  sql_.execute(
      "UPDATE deliveries SET next_ms = $1, failures = CASE status WHEN 'dead' THEN 0 ELSE failures END,"
      " status = 'pending', ended_ms = NULL"
      " WHERE id = $2 AND project = $3 AND status IN ('dead', 'pending') AND owner IS NULL",
      {to_ms(now), id.value, project.value});
  auto found = find(project, id);
  if (!found) return no_such_delivery(id);
  if (found->status == DeliveryStatus::pending) return std::move(*found);
  return Error{Error::Kind::conflict, fmt::format("Delivery {} has reached its receiver.", id.value)};
}

bool Outbox::remove(const ProjectId& project, const DeliveryId& id) {
  return sql_.execute("DELETE FROM deliveries WHERE id = $1 AND project = $2", {id.value, project.value}) == 1;
}

std::int64_t Outbox::lock_endpoints(const ProjectId& project) {
  sql_.lock("endpoints " + project.value);
  std::int64_t count = 0;
  sql_.execute("SELECT COUNT(*) FROM webhook_endpoints WHERE project = $1", {project.value},
               [&](const sql::Row& row) { count = row.integer(0); });
  return count;
}

void Outbox::insert_endpoint(const WebhookEndpoint& e) {
  sql_.execute(fmt::format("INSERT INTO webhook_endpoints ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                           kEndpointColumns),
               {e.id.value, e.project.value, e.name, e.url, json::serialize(json::value_from(e.event_types)), e.secret,
                value_of(e.old_secret), value_of(e.old_secret_until), to_ms(e.created_at), to_ms(e.updated_at),
                value_of(e.disabled_at)});
}

std::optional<WebhookEndpoint> Outbox::find_endpoint(const ProjectId& project, const EndpointId& id) {
  std::optional<WebhookEndpoint> found;
  sql_.execute(fmt::format("SELECT {} FROM webhook_endpoints WHERE id = $1 AND project = $2", kEndpointColumns),
               {id.value, project.value}, [&](const sql::Row& row) { found = read_endpoint(row); });
  return found;
}

std::optional<WebhookEndpoint> Outbox::take_endpoint(const ProjectId& project, const EndpointId& id) {
  sql_.execute("SELECT 1 FROM webhook_endpoints WHERE id = $1 AND project = $2 /*PG FOR UPDATE*/",
               {id.value, project.value});
  return find_endpoint(project, id);
}

Result<Page<WebhookEndpoint>> Outbox::list_endpoints(const ProjectId& project, const std::optional<EndpointId>& after,
                                                     std::int64_t limit) {
  std::int64_t position = kNewest;
  if (after) {
    bool known = false;
    sql_.execute("SELECT seq FROM webhook_endpoints WHERE id = $1 AND project = $2", {after->value, project.value},
                 [&](const sql::Row& row) {
                   position = row.integer(0);
                   known = true;
                 });
    if (!known) return no_such_endpoint(*after, "after");
  }
  std::vector<WebhookEndpoint> found;
  sql_.execute(
      fmt::format("SELECT {} FROM webhook_endpoints WHERE project = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
                  kEndpointColumns),
      {project.value, position, limit + 1}, [&](const sql::Row& row) { found.push_back(read_endpoint(row)); });
  return page_of(std::move(found), limit);
}

bool Outbox::update_endpoint(const WebhookEndpoint& e) {
  return sql_.execute(
             "UPDATE webhook_endpoints SET name = $1, url = $2, event_types = $3, secret = $4, old_secret = $5,"
             " old_secret_until_ms = $6, updated_ms = $7, disabled_ms = $8 WHERE id = $9 AND project = $10",
             {e.name, e.url, json::serialize(json::value_from(e.event_types)), e.secret, value_of(e.old_secret),
              value_of(e.old_secret_until), to_ms(e.updated_at), value_of(e.disabled_at), e.id.value,
              e.project.value}) == 1;
}

void Outbox::disable_endpoint(const Delivery& delivery, const std::string& url, Timestamp now) {
  const json::value parsed = json::parse(delivery.receiver);
  const json::value* id = parsed.as_object().if_contains("endpoint_id");
  if (!id) return;
  sql_.execute("UPDATE webhook_endpoints SET disabled_ms = $1 WHERE id = $2 AND project = $3 AND url = $4",
               {to_ms(now), std::string_view(id->as_string()), delivery.project.value, url});
}

bool Outbox::remove_endpoint(const ProjectId& project, const EndpointId& id) {
  return sql_.execute("DELETE FROM webhook_endpoints WHERE id = $1 AND project = $2", {id.value, project.value}) == 1;
}

}  // namespace penstock
