#pragma once
#include "client/json_view.h"
#include "model/types.h"

namespace penstock {

// What a server tells of a batch, as far as commands look at it. Throws std::runtime_error when it is no batch.
Batch read_batch(const json::object& batch);

// Why nothing of it moves, in words; empty when something should.
std::string why_it_waits(const json::object& batch);

// How a command ends that saw the batch to its end.
int exit_code_of(const Batch& batch);

}  // namespace penstock
