// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint_index.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "qeff/io/messages.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Picks weight_map and metadata.total_size out of the parser's events. A tree
// would cost several times the text, and time quadratic in it where objects
// keep their order.
class IndexHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit IndexHandler(CheckpointIndex* index) : index_(index) {}

  const absl::Status& status() const { return status_; }
  bool has_weight_map() const { return has_weight_map_; }

  bool null() override { return Scalar("null"); }
  bool boolean(bool) override { return Scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return Scalar("a number"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ == 2 && top_key_ == "metadata" && key_ == "total_size") {
      index_->total_size = value;
    }
    return Scalar("a number");
  }
  bool number_float(number_float_t, const string_t&) override {
    return Scalar("a number");
  }
  bool string(string_t& value) override {
    return InWeightMap() ? AddTensor(value) : Scalar("a string");
  }
  bool binary(binary_t&) override { return Scalar("binary"); }

  bool start_object(size_t) override {
    if (depth_ == 1 && top_key_ == "weight_map") {
      if (has_weight_map_) return Fail("duplicate key 'weight_map'");
      has_weight_map_ = true;
    } else if (!Scalar("an object")) {
      return false;
    }
    return Enter();
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 0) return Fail("expected a JSON object, found an array");
    return Scalar("an array") && Enter();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      top_key_ = std::move(name);
    } else if (depth_ == 2) {
      key_ = std::move(name);
    }
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail("not valid JSON at byte ", position - 1);
  }

 private:
  template <typename... Args>
  bool Fail(const Args&... args) {
    status_ = InvalidInputError(args...);
    return false;
  }

  bool InWeightMap() const { return depth_ == 2 && top_key_ == "weight_map"; }

  // Any value but the ones that are wanted: ignored outside weight_map.
  bool Scalar(absl::string_view found) {
    if (InWeightMap()) {
      return Fail("weight_map: ", QuoteName(key_),
                  ": expected a file name, found ", found);
    }
    if (depth_ == 1 && top_key_ == "weight_map") {
      return Fail("weight_map: expected an object, found ", found);
    }
    return true;
  }

  bool Enter() {
    return ++depth_ <= kMaxJsonDepth ||
           Fail("nested deeper than ", kMaxJsonDepth, " levels");
  }

  bool AddTensor(const std::string& shard) {
    if (index_->tensors.size() == kMaxSafetensorsTensors) {
      return Fail("weight_map: expected at most ", kMaxSafetensorsTensors,
                  " tensors");
    }
    auto it = shard_numbers_.find(shard);
    if (it == shard_numbers_.end()) {
      if (!IsPlainFileName(shard)) {
        return Fail("weight_map: ", QuoteName(key_),
                    ": expected a plain file name, found ", QuoteName(shard));
      }
      if (index_->shards.size() == kMaxShards) {
        return Fail("weight_map: expected at most ", kMaxShards, " files");
      }
      it = shard_numbers_.emplace(shard, index_->shards.size()).first;
      index_->shards.push_back(shard);
    }
    index_->tensors.push_back({std::move(key_), it->second});
    return true;
  }

  CheckpointIndex* const index_;
  absl::Status status_;
  int depth_ = 0;
  bool has_weight_map_ = false;
  std::string top_key_;
  std::string key_;  // inside the object that top_key_ names
  HashMap<std::string, size_t> shard_numbers_;
};

absl::StatusOr<CheckpointIndex> ParseIndex(absl::string_view text) {
  // The parser takes NUL for the end of its input.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return InvalidInputError("not valid JSON at byte ", nul, ": found NUL");
  }
  CheckpointIndex index;
  IndexHandler handler(&index);
  const bool parsed = nlohmann::json::sax_parse(
      text.data(), text.data() + text.size(), &handler);
  QEFF_RETURN_IF_ERROR(handler.status());
  if (!parsed) return InvalidInputError("not valid JSON");
  if (!handler.has_weight_map()) {
    return InvalidInputError("weight_map: expected an object, found nothing");
  }
  HashSet<absl::string_view> names;
  names.reserve(index.tensors.size());
  for (const CheckpointIndex::Location& location : index.tensors) {
    if (!names.insert(location.tensor).second) {
      return InvalidInputError("weight_map: duplicate key ",
                               QuoteName(location.tensor));
    }
  }
  return index;
}

}  // namespace

absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view text,
                                                     absl::string_view path) {
  absl::StatusOr<CheckpointIndex> index = ParseIndex(text);
  if (!index.ok()) return Annotate(index.status(), path);
  return index;
}

std::string WriteCheckpointIndex(const CheckpointIndex& index) {
  std::string text = "{\n  \"metadata\": {\n    \"total_size\": ";
  absl::StrAppend(&text, index.total_size.value_or(0),
                  "\n  },\n  \"weight_map\": {");
  absl::string_view separator = "\n";
  for (const CheckpointIndex::Location& location : index.tensors) {
    absl::StrAppend(&text, separator, "    ", JsonQuote(location.tensor), ": ",
                    JsonQuote(index.shards[location.shard]));
    separator = ",\n";
  }
  text += "\n  }\n}\n";
  return text;
}

std::string JsonQuote(absl::string_view text) {
  return Json(std::string(text))
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace qeff
