// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/kv_cache.h"

#include <cstddef>
#include <new>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {

void KvCache::Free::operator()(uint8_t* bytes) const {
  ::operator delete[](bytes, std::align_val_t(kAlignment));
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(
    const TransformerSpec& spec, const EngineOptions& options) {
  QEFF_ASSIGN_OR_RETURN(const KvLayout layout,
                        KvLayout::Create(options.kv_cache, spec.head_dim),
                        "kv_cache");
  const CheckedU64 region = layout.RegionBytes(options.context_length);
  const CheckedU64 total =
      region * spec.num_layers * options.batch_size * spec.num_kv_heads;
  const std::string what =
      absl::StrCat("context_length ", options.context_length, ", batch_size ",
                   options.batch_size, ": ");
  if (!total.AtMost(static_cast<uint64_t>(INT64_MAX))) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, "the cache exceeds the address space"));
  }
  auto cache = std::unique_ptr<KvCache>(
      new KvCache(layout, options.batch_size, spec.num_kv_heads,
                  static_cast<int64_t>(region.value())));
  // Not zeroed: the system gives pages of a large array when they are written.
  cache->bytes_.reset(static_cast<uint8_t*>(
      ::operator new[](static_cast<size_t>(total.value()),
                       std::align_val_t(kAlignment), std::nothrow)));
  if (cache->bytes_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what, "no memory for ", total.value(), " bytes of keys and values"));
  }
  return cache;
}

absl::Span<uint8_t> KvCache::Region(int64_t layer, int64_t slot,
                                    int64_t kv_head) {
  const int64_t index = (layer * slots_ + slot) * kv_heads_ + kv_head;
  return absl::MakeSpan(bytes_.get() + index * region_bytes_,
                        static_cast<size_t>(region_bytes_));
}

}  // namespace qeff
