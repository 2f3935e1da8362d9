// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/agreement.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Span<uint8_t> BytesOf(void* data, size_t bytes) {
  return absl::MakeSpan(static_cast<uint8_t*>(data), bytes);
}

// Of `value`, which is not that of the first process.
absl::Status Difference(const Json& value, const Json& first) {
  for (const auto& member : first.items()) {
    if (value.value(member.key(), Json()) == member.value()) continue;
    return InvalidInputError(
        member.key(), ": expected that of process 0, ",
        JsonForMessage(member.value()), ", found ",
        JsonForMessage(value.value(member.key(), Json())),
        "; all processes need the same options, models and text");
  }
  return InvalidInputError("expected what process 0 works on");
}

}  // namespace

absl::Status Agree(const absl::Status& own, GradientReducer* reducer) {
  if (reducer == nullptr) return own;
  const size_t rank = static_cast<size_t>(reducer->rank());
  // Of all: the first that is not 0 stands for the run.
  std::vector<double> codes(static_cast<size_t>(reducer->size()));
  codes[rank] = static_cast<double>(own.code());
  QEFF_RETURN_IF_ERROR(reducer->Sum(absl::MakeSpan(codes)));
  size_t root = 0;
  while (root < codes.size() && codes[root] == 0) ++root;
  if (root == codes.size()) return absl::OkStatus();
  std::string message(own.message());
  if (root > 0) message = absl::StrCat("process ", root, ": ", message);
  // And types and values of payloads.
  std::vector<std::string> parts = {std::move(message)};
  own.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    parts.emplace_back(type);
    parts.emplace_back(payload);
  });
  uint64_t count = parts.size();
  QEFF_RETURN_IF_ERROR(reducer->Broadcast(static_cast<int>(root),
                                          BytesOf(&count, sizeof(count))));
  parts.resize(count);
  for (std::string& part : parts) {
    QEFF_RETURN_IF_ERROR(BroadcastText(static_cast<int>(root), &part, reducer));
  }
  absl::Status agreed(static_cast<absl::StatusCode>(codes[root]), parts[0]);
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    agreed.SetPayload(parts[i], absl::Cord(parts[i + 1]));
  }
  return agreed;
}

absl::Status BroadcastText(int root, std::string* text,
                           GradientReducer* reducer) {
  if (reducer == nullptr) return absl::OkStatus();
  uint64_t size = text->size();
  QEFF_RETURN_IF_ERROR(reducer->Broadcast(root, BytesOf(&size, sizeof(size))));
  text->resize(size);
  return reducer->Broadcast(root, BytesOf(&(*text)[0], text->size()));
}

absl::Status CheckSame(const Json& value, GradientReducer* reducer) {
  if (reducer == nullptr) return absl::OkStatus();
  const std::string own = WriteJson(value);
  std::string text = own;
  QEFF_RETURN_IF_ERROR(BroadcastText(0, &text, reducer));
  absl::Status status;
  if (text != own) {
    const absl::StatusOr<Json> first = ParseJson(text, "process 0");
    status = first.ok() ? Difference(value, *first) : first.status();
  }
  return Agree(status, reducer);
}

}  // namespace qeff
