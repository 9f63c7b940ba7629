#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "block_pool.h"

namespace penstock {

using Micros = std::chrono::duration<double, std::micro>;

constexpr std::int64_t kBlockTokens = 16;  // vLLM's block size
constexpr std::size_t kTokenBytes = 4;     // what a token stands for, as an average of English text

// A prompt as the model sees it: how many tokens, and the chain of hashes of its whole blocks.
struct Prompt {
  explicit Prompt(std::string_view text);

  std::int64_t tokens;  // at least 1
  std::uint64_t hash;   // of the whole text
  std::vector<BlockHash> blocks;
};

// What an engine with continuous batching does step by step, and how long each step takes: the scheduler of vLLM's V1
// engine (vllm/v1/core/sched/scheduler.py) in small, without priorities, speculation and sliding windows. Pure: no
// clock, no input, no randomness. One thread.
//
// A step has a budget of tokens. The running sequences come first, in the order in which they were admitted: one token
// for each that generates, the next chunk for the one whose prompt is not through yet. (That one is always the last, so
// decodes come before prefill.) Then waiting ones are admitted, first come, first served, while there are budget,
// places and blocks. A waiting sequence takes over the whole blocks at its beginning that are cached, computed by this
// step's earlier sequences included; its last token is always computed. When a running sequence finds no block, the one
// admitted last loses all of its own, goes to the front of the queue, and is computed again later; in such a step
// nobody is admitted. A block is cached when it is full, and so are blocks of generated tokens: the same prompt brings
// the same answer, a different one never meets it.
//
// Checked in two ways. step_model_test.cpp has cases that were reckoned by hand. And the schedules were compared with
// those of vLLM 0.11.0, its own Scheduler and KVCacheManager in Python with the model's part left out: on 15 seeded
// workloads of 200 to 500 requests (shared beginnings or none, the same prompts again, arrivals at once or over time,
// caches from ample to so tight that there were 500 preemptions) every step computed as many tokens and gave a token to
// the same sequences, and every sequence had as many cached tokens. The times were compared with nothing.
//
// A step takes `base`, and its share for each prefilled token, each generating sequence, and each token of context that
// is read from the cache. The defaults are those of an 8B model in 16 bits with grouped-query attention on one GPU of
// 80 GB, 2 TB/s and 312 TFLOP/s (A100), from first principles and not measured.
class StepModel {
 public:
  using Id = std::uint64_t;

  struct Options {
    std::size_t sequences_max = 256;      // vLLM's max_num_seqs
    std::int64_t step_tokens_max = 2048;  // vLLM's max_num_batched_tokens
    std::size_t blocks = 24'576;          // 131 KB a token in (0.9 * 80 - 16 of weights - 4 of activations) GB
    Micros base{10'000};                  // 16 GB of weights read at 2 TB/s, and 2 ms to prepare and launch
    Micros per_prefill_token{85};         // 16 GFLOP at 60 % of the peak
    Micros per_sequence{20};              // sampling and bookkeeping for one that generates
    Micros per_context_token{0.065};      // 131 KB at 2 TB/s
  };

  // A token that a step made.
  struct Token {
    Id id;
    std::int64_t cached;  // tokens of its prompt that were cached when it was first admitted
    bool last;            // the sequence has ended and is forgotten
  };

  struct Counters {
    std::int64_t steps = 0;
    Micros time{0};                                     // of all steps
    std::int64_t prompt_tokens = 0, cached_tokens = 0;  // of sequences when they were first admitted
    std::int64_t computed_tokens = 0;                   // prefilled, those of preempted sequences again
    std::int64_t generated_tokens = 0;
    std::int64_t preemptions = 0;
  };

  explicit StepModel(const Options& options) : options_(options), pool_(options.blocks) {}

  // Puts a sequence at the end of the queue. Nothing when the cache is too small for it even alone. Requires
  // output_tokens > 0.
  std::optional<Id> add(Prompt prompt, std::int64_t output_tokens);
  // Forgets a sequence, during a step too. No such sequence: nothing happens.
  void remove(Id id);

  bool idle() const { return sequences_.empty(); }
  std::size_t running() const { return running_.size(); }
  std::size_t waiting() const { return waiting_.size(); }
  double cache_usage() const;  // the part of the blocks that sequences hold
  const Counters& counters() const { return counters_; }

  // Decides what the next step computes, and says how long it takes. Requires that the model is not idle. What is added
  // before end_step() has to wait for the step after.
  Micros begin_step();
  // The tokens that the step made, by order of admission.
  std::vector<Token> end_step();

 private:
  struct Sequence {
    Id id;
    Prompt prompt;
    std::int64_t output_tokens;
    std::int64_t made = 0;       // tokens of the output so far
    std::int64_t computed = 0;   // tokens whose keys and values are in `blocks`
    std::int64_t scheduled = 0;  // tokens that this step computes
    std::optional<std::int64_t> cached = {};
    std::vector<BlockPool::Block> blocks = {};

    std::int64_t tokens() const { return prompt.tokens + made; }
    BlockHash hash_of(std::size_t block) const;
  };

  bool schedule(Sequence& sequence, std::int64_t tokens);  // false: there are not enough blocks
  void schedule_running(std::int64_t& budget, bool& preempted);
  void admit_waiting(std::int64_t& budget);
  void release(Sequence& sequence);
  void preempt_last();

  const Options options_;
  BlockPool pool_;
  Counters counters_;
  Id last_id_ = 0;
  std::unordered_map<Id, Sequence> sequences_;
  std::vector<Sequence*> running_;  // in the order in which they were admitted
  std::deque<Sequence*> waiting_;
};

}  // namespace penstock
