// SPDX-License-Identifier: Apache-2.0
//
// The forward of a few tokens, of any slots, through all blocks: what an engine
// repeats until its inputs are done.

#ifndef QEFF_DEVICE_CHUNK_FORWARD_H_
#define QEFF_DEVICE_CHUNK_FORWARD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "qeff/device/engine_options.h"
#include "qeff/device/kv_cache.h"
#include "qeff/device/linear_runner.h"
#include "qeff/device/model.h"
#include "qeff/device/op_times.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace internal_device {

// A token and its place.
struct ChunkToken {
  int32_t id;
  int64_t slot;
  int64_t position;
};

// Not thread-safe. Allocates only in the constructor.
class ChunkForward {
 public:
  // Rows that Logits takes at most.
  static int64_t MaxLogitRows(const EngineOptions& options);

  // Throws std::bad_alloc. Preconditions: the model is valid and fits the
  // options, as does `cache`; model, `cache` and `pool` outlive this.
  ChunkForward(const DeviceModel& model, const EngineOptions& options,
               KvCache* cache, ThreadPool* pool);

  // Runs `tokens`, at most prefill_chunk, and stores their keys and values.
  // Those of a slot have consecutive positions, in order, and all earlier
  // positions of the slot were run before. Returns what the last block leaves,
  // [tokens, hidden_size], valid until the next call.
  MatrixView<const float> Run(absl::Span<const ChunkToken> tokens);

  // [hidden.rows(), vocab_size] logits of hidden states as Run returns them, at
  // most MaxLogitRows; valid until the next call.
  MatrixView<const float> Logits(MatrixView<const float> hidden);

  const OpTimes& times() const { return times_; }

 private:
  // Consecutive tokens of one slot: [begin, end) of the chunk.
  struct TokenRange {
    int64_t begin;
    int64_t end;
  };

  void ReserveLinears();
  void Embed();
  void SetRotation();
  void RunBlock(const DeviceBlock& block, int64_t layer);
  void RunQkv(const DeviceBlock& block);
  void FinishQkv(const DeviceBlock& block, int64_t token);
  void EvenOutKeys(const CachedKeys& keys, absl::Span<float> k,
                   absl::Span<float> q) const;
  void RunAttention(int64_t layer);
  void SplitAttention();
  void StoreHead(int64_t layer, const TokenRange& range, int64_t kv_head);
  void AttendHead(int64_t layer, const TokenRange& range, int64_t kv_head,
                  int thread);
  void RunFfn(const DeviceBlock& block);
  void AddProduct(const DeviceLinear& linear);
  // out = norm(x).
  void NormRow(const DeviceNorm& norm, absl::Span<const float> x,
               absl::Span<float> out) const;
  void Norm(const DeviceNorm& norm);

  // Calls body(t), which passes over `elems` elements, for every token of the
  // chunk on some thread.
  template <typename Body>
  void ForTokens(int64_t elems, const Body& body);
  // The first rows of a buffer, one for each token.
  MatrixView<float> Used(Matrix<float>* buffer) const {
    return MatrixView<float>(buffer->data(), num_tokens(), buffer->cols());
  }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }

  const DeviceModel& model_;
  const TransformerSpec& spec_;
  ThreadPool* const pool_;
  std::vector<double> frequencies_;  // [head_dim / 2] with rope
  std::vector<float> slopes_;        // [num_heads] with ALiBi
  KvCache* const cache_;
  OpTimes times_;
  LinearRunner linears_;

  // Of the tokens that run: [prefill_chunk, ...].
  absl::Span<const ChunkToken> tokens_;
  Matrix<float> hidden_, normed_, projected_;  // hidden_size
  Matrix<float> q_, attended_;                 // q_size
  Matrix<float> k_, v_;                        // kv_size
  Matrix<float> cosines_, sines_;              // head_dim / 2
  Matrix<float> up_, gate_;                    // ffn_size
  Matrix<float> logit_input_;                  // [max rows, hidden_size]
  Matrix<float> logits_;                       // [max rows, vocab_size]
  AlignedArray<uint8_t> attend_scratch_;       // of each thread
  int64_t attend_scratch_bytes_;               // of one

  std::vector<TokenRange> slot_ranges_;    // all of a slot's tokens
  std::vector<TokenRange> attend_ranges_;  // what one call of Attend takes
};

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_CHUNK_FORWARD_H_
