#include "step_model.h"

#include <xxhash.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace penstock {
namespace {

std::size_t blocks_for(std::int64_t tokens) {
  return static_cast<std::size_t>((tokens + kBlockTokens - 1) / kBlockTokens);
}

}  // namespace

Prompt::Prompt(std::string_view text)
    : tokens(std::max<std::int64_t>(1, static_cast<std::int64_t>((text.size() + kTokenBytes - 1) / kTokenBytes))),
      hash(XXH3_64bits(text.data(), text.size())) {
  constexpr std::size_t kBlockBytes = kBlockTokens * kTokenBytes;
  blocks.resize(static_cast<std::size_t>(tokens / kBlockTokens));
  BlockHash before = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::string_view block = text.substr(i * kBlockBytes, kBlockBytes);
    blocks[i] = before = XXH3_64bits_withSeed(block.data(), block.size(), before);
  }
}

BlockHash StepModel::Sequence::hash_of(std::size_t block) const {
  if (block < prompt.blocks.size()) return prompt.blocks[block];
  return XXH3_64bits_withSeed(&block, sizeof block, prompt.hash);
}

std::optional<StepModel::Id> StepModel::add(Prompt prompt, std::int64_t output_tokens) {
  assert(output_tokens > 0);
  // The last token is never computed: nothing comes after it.
  if (blocks_for(prompt.tokens + output_tokens - 1) > pool_.size()) return {};
  const Id id = ++last_id_;
  const auto [it, added] =
      sequences_.emplace(id, Sequence{.id = id, .prompt = std::move(prompt), .output_tokens = output_tokens});
  waiting_.push_back(&it->second);
  return id;
}

void StepModel::remove(Id id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  release(it->second);
  std::erase(running_, &it->second);
  std::erase(waiting_, &it->second);
  sequences_.erase(it);
}

double StepModel::cache_usage() const {
  return 1 - static_cast<double>(pool_.free()) / static_cast<double>(pool_.size());
}

Micros StepModel::begin_step() {
  assert(!idle());
  std::int64_t budget = options_.step_tokens_max;
  bool preempted = false;
  schedule_running(budget, preempted);
  if (!preempted) admit_waiting(budget);

  Micros time = options_.base;
  for (const Sequence* s : running_) {
    if (s->scheduled == 0) continue;
    const bool generates = s->made > 0 && s->scheduled == 1;
    time += generates ? options_.per_sequence : options_.per_prefill_token * s->scheduled;
    time += options_.per_context_token * (s->computed + s->scheduled);
    if (!generates) counters_.computed_tokens += s->scheduled;
  }
  assert(budget < options_.step_tokens_max);
  ++counters_.steps;
  counters_.time += time;
  return time;
}

std::vector<StepModel::Token> StepModel::end_step() {
  std::vector<Token> tokens;
  for (Sequence* s : running_) {
    if (s->scheduled == 0) continue;
    s->computed += std::exchange(s->scheduled, 0);
    if (s->computed < s->tokens()) continue;  // the prompt goes on in the next step
    ++s->made;
    tokens.push_back({s->id, s->cached.value_or(0), s->made == s->output_tokens});
  }
  counters_.generated_tokens += static_cast<std::int64_t>(tokens.size());
  for (const Token& token : tokens) {
    if (token.last) remove(token.id);
  }
  return tokens;
}

bool StepModel::schedule(Sequence& sequence, std::int64_t tokens) {
  const std::int64_t computed = sequence.computed + tokens;
  const std::size_t needed = blocks_for(computed);
  const std::size_t held = sequence.blocks.size();
  if (needed > held + pool_.free()) return false;
  while (sequence.blocks.size() < needed) sequence.blocks.push_back(pool_.take());
  // A step writes keys and values before it reads them, so later sequences of the same step share these already.
  for (auto i = static_cast<std::size_t>(sequence.computed / kBlockTokens);
       i < static_cast<std::size_t>(computed / kBlockTokens); ++i) {
    pool_.cache(sequence.blocks[i], sequence.hash_of(i));
  }
  sequence.scheduled = tokens;
  return true;
}

void StepModel::schedule_running(std::int64_t& budget, bool& preempted) {
  for (std::size_t i = 0; i < running_.size() && budget > 0; ++i) {
    Sequence& sequence = *running_[i];
    const std::int64_t tokens = std::min(sequence.tokens() - sequence.computed, budget);
    while (i < running_.size() && !schedule(sequence, tokens)) {
      preempt_last();
      preempted = true;
    }
    budget -= sequence.scheduled;  // nothing, if it had to go itself
  }
}

void StepModel::admit_waiting(std::int64_t& budget) {
  while (!waiting_.empty() && budget > 0 && running_.size() < options_.sequences_max) {
    Sequence& sequence = *waiting_.front();
    std::vector<BlockHash> chain(static_cast<std::size_t>((sequence.tokens() - 1) / kBlockTokens));
    for (std::size_t i = 0; i < chain.size(); ++i) chain[i] = sequence.hash_of(i);
    std::vector<BlockPool::Block> found = pool_.find(chain);
    const auto found_free = static_cast<std::size_t>(
        std::count_if(found.begin(), found.end(), [&](BlockPool::Block block) { return pool_.is_free(block); }));
    const std::int64_t cached = static_cast<std::int64_t>(found.size()) * kBlockTokens;
    const std::int64_t tokens = std::min(sequence.tokens() - cached, budget);
    if (blocks_for(cached + tokens) - found.size() + found_free > pool_.free()) return;

    for (const BlockPool::Block block : found) pool_.hold(block);
    sequence.blocks = std::move(found);
    sequence.computed = cached;
    schedule(sequence, tokens);
    if (!sequence.cached) {
      sequence.cached = cached;
      counters_.prompt_tokens += sequence.prompt.tokens;
      counters_.cached_tokens += cached;
    }
    budget -= tokens;
    waiting_.pop_front();
    running_.push_back(&sequence);
  }
}

// From the end: what many share stands at the beginning, and should be taken last.
void StepModel::release(Sequence& sequence) {
  for (; !sequence.blocks.empty(); sequence.blocks.pop_back()) pool_.release(sequence.blocks.back());
  sequence.computed = sequence.scheduled = 0;
}

void StepModel::preempt_last() {
  Sequence* last = running_.back();
  running_.pop_back();
  release(*last);
  waiting_.push_front(last);
  ++counters_.preemptions;
}

}  // namespace penstock
