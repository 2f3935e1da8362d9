// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/tokenizer_json_document.h"

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMaxTreeValues = 1000000;
constexpr size_t kMaxTreeKeys = 512;
constexpr int64_t kMaxId = (int64_t{1} << 26) - 1;

// Builds the document from the parser's events.
class Handler : public nlohmann::json_sax<Json> {
 public:
  explicit Handler(TokenizerJsonDocument* document) : document_(document) {}

  const std::string& error() const { return error_; }

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override {
    if (place_ == Place::kVocab) return VocabId(value);
    return Scalar(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kVocab) {
      return VocabId(value > static_cast<uint64_t>(kMaxId)
                         ? kMaxId + 1
                         : static_cast<int64_t>(value));
    }
    return Scalar(value);
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Scalar(value);
  }
  bool binary(binary_t&) override { return Fail("binary data"); }
  bool string(string_t& value) override {
    if (place_ == Place::kMerges) return Merge(value);
    if (place_ == Place::kMergePair) {
      document_->merge_parts.push_back(value);
      return ++pair_parts_ <= 2 || BadMerge();
    }
    return Scalar(value);
  }

  bool start_object(size_t) override {
    if (!Enter()) return false;
    if (place_ == Place::kTree && AtModelMember("vocab")) {
      place_ = Place::kVocab;
      return Scalar(Json::object(), /*in_tree=*/true);
    }
    if (place_ == Place::kVocab) return BadId();
    if (place_ != Place::kTree) return place_ == Place::kSkip || BadMerge();
    return Open(Json::object());
  }
  bool end_object() override { return Close(Place::kVocab, 2); }

  bool start_array(size_t) override {
    if (!Enter()) return false;
    if (place_ == Place::kTree && AtModelMember("merges")) {
      place_ = Place::kMerges;
      return Scalar(Json::array(), /*in_tree=*/true);
    }
    if (place_ == Place::kTree && AtModelMember("vocab")) {
      place_ = Place::kSkip;
      return Scalar(Json::array(), /*in_tree=*/true);
    }
    if (place_ == Place::kMerges) {
      place_ = Place::kMergePair;
      pair_parts_ = 0;
      return true;
    }
    if (place_ == Place::kVocab) return BadId();
    if (place_ != Place::kTree) return place_ == Place::kSkip || BadMerge();
    return Open(Json::array());
  }
  bool end_array() override {
    if (place_ == Place::kMergePair) {
      --depth_;
      place_ = Place::kMerges;
      if (pair_parts_ != 2) return BadMerge();
      ++merges_;
      return true;
    }
    return Close(place_ == Place::kSkip ? Place::kSkip : Place::kMerges, 2);
  }

  bool key(string_t& name) override {
    if (place_ == Place::kVocab) {
      document_->vocab_tokens.push_back(name);
      return true;
    }
    if (place_ != Place::kTree) return true;
    const Json& object = *open_.back();
    if (object.size() >= kMaxTreeKeys) {
      return Fail("more than ", kMaxTreeKeys, " keys in one object");
    }
    if (object.contains(name)) {
      return Fail("duplicate key ", JsonForMessage(Json(name)));
    }
    if (depth_ == 1) section_ = name;
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    absl::string_view what = error.what();
    const size_t bracket = what.find("] ");
    if (bracket != absl::string_view::npos) what.remove_prefix(bracket + 2);
    return Fail("not valid JSON at byte ", position, ": ", what.substr(0, 200));
  }

 private:
  // Where the parser is.
  enum class Place { kTree, kVocab, kMerges, kMergePair, kSkip };

  template <typename... Args>
  bool Fail(const Args&... args) {
    error_ = absl::StrCat(args...);
    return false;
  }

  bool BadId() {
    const StringPool& tokens = document_->vocab_tokens;
    return Fail("model: vocab: token ",
                JsonForMessage(std::string(tokens[tokens.size() - 1])),
                ": expected an id from 0 to ", kMaxId);
  }
  bool BadMerge() {
    return Fail("model: merges[", merges_, "]: expected \"LEFT RIGHT\" or ",
                "[\"LEFT\", \"RIGHT\"]");
  }

  bool Enter() {
    if (++depth_ <= kMaxJsonDepth) return true;
    return Fail("nested deeper than ", kMaxJsonDepth, " levels");
  }

  // Whether the value that begins now is root["model"][name].
  bool AtModelMember(absl::string_view name) const {
    return depth_ == 3 && open_.size() == 2 && section_ == "model" &&
           key_ == name && open_.back()->is_object();
  }

  // Puts a value where the tree is being built.
  Json* Attach(Json value) {
    if (open_.empty()) {
      document_->root = std::move(value);
      return &document_->root;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool CountValue() {
    return ++values_ <= kMaxTreeValues ||
           Fail("more than ", kMaxTreeValues, " values");
  }

  bool Scalar(Json value, bool in_tree = false) {
    if (place_ == Place::kTree || in_tree) {
      if (!CountValue()) return false;
      Attach(std::move(value));
      return true;
    }
    if (place_ == Place::kVocab) return BadId();
    return place_ == Place::kSkip || BadMerge();
  }

  bool Open(Json value) {
    if (!CountValue()) return false;
    open_.push_back(Attach(std::move(value)));
    return true;
  }

  // The end of an object or array; `special` ends when depth falls to `depth`.
  bool Close(Place special, int depth) {
    --depth_;
    if (place_ == Place::kTree) {
      open_.pop_back();
    } else if (place_ == special && depth_ == depth) {
      place_ = Place::kTree;
    }
    return true;
  }

  bool VocabId(int64_t id) {
    if (id < 0 || id > kMaxId) return BadId();
    document_->vocab_ids.push_back(static_cast<int32_t>(id));
    return true;
  }

  bool Merge(absl::string_view text) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(text, absl::MaxSplits(' ', 1));
    if (parts.first.empty() || parts.second.empty() ||
        absl::StrContains(parts.second, ' ')) {
      return BadMerge();
    }
    document_->merge_parts.push_back(parts.first);
    document_->merge_parts.push_back(parts.second);
    ++merges_;
    return true;
  }

  TokenizerJsonDocument* document_;
  Place place_ = Place::kTree;
  int depth_ = 0;
  std::vector<Json*> open_;
  std::string section_;  // last key of the root
  std::string key_;      // last key of the tree
  size_t values_ = 0;
  size_t merges_ = 0;
  int pair_parts_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<TokenizerJsonDocument> ParseTokenizerJson(
    absl::string_view text, absl::string_view context) {
  TokenizerJsonDocument document;
  Handler handler(&document);
  if (!Json::sax_parse(text.data(), text.data() + text.size(), &handler)) {
    return InvalidInputError(context, ": ", handler.error());
  }
  return document;
}

}  // namespace qeff
