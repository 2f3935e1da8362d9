// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/shard_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "qeff/io/checkpoint_index.h"
#include "qeff/io/messages.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/util/checked.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kDataAlignment = 8;

absl::Status CheckName(const std::string& name) {
  if (name.empty()) return InvalidInputError("tensor name: found none");
  if (name == "__metadata__") {
    return InvalidInputError("tensor name: ", name, " is reserved");
  }
  if (name.size() > kMaxTensorNameBytes) {
    return InvalidInputError("tensor ", QuoteName(name), ": name has ",
                             name.size(), " bytes, expected at most ",
                             kMaxTensorNameBytes);
  }
  // JsonQuote replaces what is not UTF-8, so only valid names come back.
  const Json restored = Json::parse(JsonQuote(name), nullptr, false);
  if (restored.is_discarded() || restored.get<std::string>() != name) {
    return InvalidInputError("tensor ", QuoteName(name),
                             ": name is not valid UTF-8");
  }
  return absl::OkStatus();
}

absl::Status CheckTensors(absl::Span<const TensorInfo> tensors) {
  if (tensors.size() > kMaxSafetensorsTensors) {
    return InvalidInputError("expected at most ", kMaxSafetensorsTensors,
                             " tensors, found ", tensors.size());
  }
  HashSet<absl::string_view> names;
  names.reserve(tensors.size());
  CheckedU64 total_bytes = 0;
  for (const TensorInfo& tensor : tensors) {
    QEFF_RETURN_IF_ERROR(CheckName(tensor.name));
    if (!names.insert(tensor.name).second) {
      return InvalidInputError("duplicate tensor ", QuoteName(tensor.name));
    }
    const CheckedU64 bytes =
        tensor.shape.num_elements() * DTypeBytes(tensor.dtype);
    total_bytes = total_bytes + bytes;
    if (!bytes.valid() || !total_bytes.AtMost(INT64_MAX)) {
      return InvalidInputError("tensor ", QuoteName(tensor.name), ": shape ",
                               tensor.shape.ToString(),
                               ": size overflows 64 bits");
    }
    if (tensor.shape.rank() > kMaxTensorRank) {
      return InvalidInputError("tensor ", QuoteName(tensor.name),
                               ": expected at most ", kMaxTensorRank,
                               " dimensions, found ", tensor.shape.rank());
    }
  }
  return absl::OkStatus();
}

// Splits [0, tensors.size()) into consecutive ranges; returns their ends.
std::vector<size_t> SplitBySize(absl::Span<const TensorInfo> tensors,
                                uint64_t max_shard_bytes) {
  std::vector<size_t> ends;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t size_bytes = tensors[i].size_bytes();
    if (bytes > 0 && bytes + size_bytes > max_shard_bytes) {
      ends.push_back(i);
      bytes = 0;
    }
    bytes += size_bytes;
  }
  ends.push_back(tensors.size());
  return ends;
}

// One member of a header.
std::string HeaderEntry(const TensorInfo& tensor, uint64_t begin_bytes) {
  return absl::StrCat(",", JsonQuote(tensor.name), ":{\"dtype\":\"",
                      DTypeName(tensor.dtype), "\",\"shape\":[",
                      absl::StrJoin(tensor.shape.dims(), ","),
                      "],\"data_offsets\":[", begin_bytes, ",",
                      begin_bytes + tensor.size_bytes(), "]}");
}

// Length field and padded text.
absl::StatusOr<std::string> FinishHeader(std::string text) {
  text.resize(RoundUp(text.size(), kDataAlignment), ' ');
  if (text.size() > kMaxSafetensorsHeaderBytes) {
    return InvalidInputError("header: expected at most ",
                             kMaxSafetensorsHeaderBytes, " bytes, found ",
                             text.size());
  }
  std::string length;
  for (int i = 0; i < 8; ++i) {
    length.push_back(static_cast<char>((text.size() >> (8 * i)) & 0xFF));
  }
  return length + text;
}

// Lays out tensors [begin, end) in shard number `shard`.
absl::Status PlanShard(absl::Span<const TensorInfo> tensors, size_t begin,
                       size_t end, size_t shard, ShardLayout* layout) {
  std::vector<size_t> order(end - begin);
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return DTypeBytes(tensors[a].dtype) > DTypeBytes(tensors[b].dtype);
  });
  // Loaders of Transformers look for this entry.
  std::string text = "{\"__metadata__\":{\"format\":\"pt\"}";
  uint64_t data_bytes = 0;
  for (size_t i : order) {
    layout->places[i] = {shard, data_bytes};
    text += HeaderEntry(tensors[i], data_bytes);
    data_bytes += tensors[i].size_bytes();
  }
  text += "}";
  ShardLayout::Shard& result = layout->shards[shard];
  QEFF_ASSIGN_OR_RETURN(result.header, FinishHeader(std::move(text)));
  result.file_bytes = result.header.size() + data_bytes;
  for (size_t i : order) layout->places[i].begin_bytes += result.header.size();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ShardLayout> PlanShards(absl::Span<const TensorInfo> tensors,
                                       uint64_t max_shard_bytes) {
  QEFF_RETURN_IF_ERROR(CheckTensors(tensors));
  const std::vector<size_t> ends = SplitBySize(tensors, max_shard_bytes);
  if (ends.size() > kMaxShards) {
    return InvalidInputError("expected at most ", kMaxShards, " shards, found ",
                             ends.size(), "; allow larger ones");
  }
  ShardLayout layout;
  layout.shards.resize(ends.size());
  layout.places.resize(tensors.size());
  size_t begin = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    layout.shards[i].name =
        ends.size() == 1 ? std::string("model.safetensors")
                         : absl::StrFormat("model-%05d-of-%05d.safetensors",
                                           i + 1, ends.size());
    QEFF_RETURN_IF_ERROR(PlanShard(tensors, begin, ends[i], i, &layout));
    begin = ends[i];
  }
  return layout;
}

}  // namespace qeff
