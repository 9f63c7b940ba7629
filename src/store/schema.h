#pragma once
#include "store/store.h"

namespace penstock {

// What Store::migrate() does, for who works beside servers that may be running: a schema of an earlier version is
// theirs, and refused by UsageError.
void migrate_unless_in_use(Store& store);

}  // namespace penstock
