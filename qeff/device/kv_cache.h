// SPDX-License-Identifier: Apache-2.0
//
// Memory for the keys and values of all layers and slots of an engine.

#ifndef QEFF_DEVICE_KV_CACHE_H_
#define QEFF_DEVICE_KV_CACHE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/engine_options.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {

// A region of KvLayout for each layer, slot and key-value head. Memory is not
// touched before it is written. Thread-compatible: different regions may be
// written by different threads.
class KvCache {
 public:
  // Precondition: the spec is valid. Errors: kInvalidArgument for a type of
  // cache that KvLayout does not know; kResourceExhausted when memory is out,
  // naming the bytes.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(
      const TransformerSpec& spec, const EngineOptions& options);

  const KvLayout& layout() const { return layout_; }

  // The keys and values of a head: for StoreKv and Attend.
  absl::Span<uint8_t> Region(int64_t layer, int64_t slot, int64_t kv_head);

 private:
  struct Free {
    void operator()(uint8_t* bytes) const;
  };

  KvCache(const KvLayout& layout, int64_t slots, int64_t kv_heads,
          int64_t region_bytes)
      : layout_(layout),
        slots_(slots),
        kv_heads_(kv_heads),
        region_bytes_(region_bytes) {}

  const KvLayout layout_;
  const int64_t slots_;
  const int64_t kv_heads_;
  const int64_t region_bytes_;
  std::unique_ptr<uint8_t[], Free> bytes_;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_KV_CACHE_H_
