// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/json.h"

#include <cmath>
#include <utility>
#include <vector>

#include "qeff/util/hash_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Builds the tree from the parser's events. The library's own builder looks
// for each key among all earlier ones of its object, because Json keeps their
// order: quadratic in the size of a vocabulary. Here a hash set finds
// duplicates, and members are appended without a search.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Add(Json()); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value);
  }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override {
    keys_.emplace_back();
    return Enter(Json::object());
  }
  bool end_object() override {
    keys_.pop_back();
    open_.pop_back();
    return true;
  }
  bool start_array(size_t) override { return Enter(Json::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) {
      key_ = std::move(name);
      return true;
    }
    error_ = absl::StrCat("duplicate key ", JsonForMessage(Json(name)));
    return false;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's message repeats a prefix "[json.exception...] ".
    absl::string_view what = error.what();
    const size_t bracket = what.find("] ");
    if (bracket != absl::string_view::npos) what.remove_prefix(bracket + 2);
    error_ = absl::StrCat("not valid JSON at byte ", position, ": ",
                          what.substr(0, 200));
    return false;
  }

  const std::string& error() const { return error_; }
  Json TakeRoot() { return std::move(root_); }

 private:
  bool Add(Json value) {
    Append(std::move(value));
    return true;
  }

  // Puts `value` where the parser stands; valid until the next call.
  Json* Append(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    // As a plain vector, which does not search.
    Json::object_t::Container& members =
        open_.back()->get_ref<Json::object_t&>();
    members.emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }

  bool Enter(Json container) {
    if (open_.size() == kMaxJsonDepth) {
      error_ = absl::StrCat("nested deeper than ", kMaxJsonDepth, " levels");
      return false;
    }
    // A parent does not grow while its child is open: the pointer stays good.
    open_.push_back(Append(std::move(container)));
    return true;
  }

  Json root_;
  std::vector<Json*> open_;
  std::vector<HashSet<std::string>> keys_;  // of open objects
  std::string key_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text,
                               absl::string_view context) {
  // The parser takes NUL for the end of its input.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return InvalidInputError(context, ": not valid JSON at byte ", nul + 1,
                             ": found NUL");
  }
  TreeBuilder builder;
  if (!Json::sax_parse(text.data(), text.data() + text.size(), &builder)) {
    return InvalidInputError(context, ": ", builder.error());
  }
  return builder.TakeRoot();
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes) {
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(path, max_bytes));
  return ParseJson(text, path);
}

std::string WriteJson(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string JsonForMessage(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) {
    // A long or nested one is not even printed.
    constexpr size_t kShownElements = 8;
    bool shown = value.size() <= kShownElements;
    for (const Json& element : value) {
      shown = shown && !element.is_structured();
    }
    if (!shown) return "an array";
  }
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

absl::StatusOr<JsonObjectReader> JsonObjectReader::Create(const Json& object,
                                                          std::string context) {
  if (!object.is_object()) {
    return InvalidInputError(context, ": expected a JSON object, found ",
                             JsonForMessage(object));
  }
  return JsonObjectReader(object, std::move(context));
}

const Json* JsonObjectReader::Find(const std::string& key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

absl::Status JsonObjectReader::Unexpected(const std::string& key,
                                          absl::string_view expected) const {
  const Json* value = Find(key);
  return InvalidInputError(
      context_, ": ", key, ": expected ", expected, ", found ",
      value == nullptr ? "nothing" : JsonForMessage(*value));
}

absl::StatusOr<int64_t> JsonObjectReader::Int(const std::string& key,
                                              int64_t min, int64_t max) const {
  const Json* value = Find(key);
  const auto expected = [&] {
    return absl::StrCat("an integer from ", min, " to ", max);
  };
  if (value == nullptr || !value->is_number_integer()) {
    return Unexpected(key, expected());
  }
  if (value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Unexpected(key, expected());
  }
  const int64_t v = value->get<int64_t>();
  if (v < min || v > max) return Unexpected(key, expected());
  return v;
}

absl::StatusOr<int64_t> JsonObjectReader::IntOr(const std::string& key,
                                                int64_t fallback, int64_t min,
                                                int64_t max) const {
  if (!Has(key)) return fallback;
  return Int(key, min, max);
}

absl::StatusOr<double> JsonObjectReader::Number(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_number() ||
      !std::isfinite(value->get<double>())) {
    return Unexpected(key, "a finite number");
  }
  return value->get<double>();
}

absl::StatusOr<double> JsonObjectReader::NumberOr(const std::string& key,
                                                  double fallback) const {
  if (!Has(key)) return fallback;
  return Number(key);
}

absl::StatusOr<bool> JsonObjectReader::BoolOr(const std::string& key,
                                              bool fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Unexpected(key, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonObjectReader::String(
    const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_string()) {
    return Unexpected(key, "a string");
  }
  return value->get<std::string>();
}

absl::StatusOr<std::string> JsonObjectReader::StringOr(
    const std::string& key, const std::string& fallback) const {
  if (!Has(key)) return fallback;
  return String(key);
}

absl::StatusOr<absl::optional<JsonObjectReader>> JsonObjectReader::ObjectOr(
    const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return absl::optional<JsonObjectReader>();
  QEFF_ASSIGN_OR_RETURN(JsonObjectReader reader,
                        Create(*value, absl::StrCat(context_, ": ", key)));
  return absl::optional<JsonObjectReader>(reader);
}

}  // namespace qeff
