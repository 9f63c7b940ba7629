#pragma once
#include "net/http.h"
#include "store/store.h"

// The header Idempotency-Key (IETF draft of that name): a create that is sent again with it is done once.
namespace penstock {

// The request's key, if it sent one. `content` says all that makes two requests the same. Error when it is too long.
Result<std::optional<IdempotencyKey>> idempotency_key(const ProjectId& project, const Request& request,
                                                      std::string_view content);

// What `create` made for this key before, as `find` finds it by its id, or else what it makes now. Within the
// transaction of the create; an object has an `id`.
template <class Object, class Find, class Create>
Result<Object> create_once(Store& store, const std::optional<IdempotencyKey>& key, Timestamp now, Find find,
                           Create create) {
  if (key) {
    const auto made = store.recall(*key, now);
    if (!made) return made.error();
    if (*made) {
      std::optional<Object> object = find(**made);
      if (object) return std::move(*object);  // else it has been deleted since
    }
  }
  Result<Object> created = create();
  if (created && key) store.remember(*key, created->id.value, now);
  return created;
}

}  // namespace penstock
