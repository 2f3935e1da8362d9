// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors_header.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "nlohmann/json.hpp"
#include "qeff/io/file_kind.h"
#include "qeff/io/messages.h"
#include "qeff/util/checked.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kMetadataKey = "__metadata__";

// Types of the format that DType lacks.
constexpr absl::string_view kUnsupportedDTypes[] = {
    "F4",          "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ",
    "F8_E5M2FNUZ", "U16",     "U32",     "U64",     "C64"};

uint64_t LoadLittleEndian64(const uint8_t* from) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = (value << 8) | from[i];
  return value;
}

// Receives the parser's events and builds entries straight from them: the
// header's grammar has a fixed depth, so anything nested deeper, and anything
// of a wrong type, ends the parse at once.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(uint64_t data_bytes, SafetensorsHeader* header)
      : data_bytes_(data_bytes), header_(header) {}

  // Without the path. OK while nothing was wrong.
  const absl::Status& status() const { return status_; }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override {
    return Unexpected(value ? "true" : "false");
  }
  bool number_integer(number_integer_t value) override {
    return Unexpected(absl::StrCat(value));  // negative
  }
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t, const string_t& text) override {
    return Unexpected(text.substr(0, 40));
  }
  bool string(string_t& value) override;
  bool binary(binary_t&) override { return Unexpected("binary"); }
  bool start_object(size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(size_t) override;
  bool end_array() override;
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override;

 private:
  enum class Where { kOutside, kTop, kMetadata, kEntry, kShape, kOffsets };
  enum Field : unsigned { kDType = 1, kShapeField = 2, kOffsetsField = 4 };
  static constexpr unsigned kAllFields = kDType | kShapeField | kOffsetsField;

  template <typename... Args>
  bool Fail(const Args&... args) {
    status_ = InvalidInputError(args...);
    return false;
  }
  bool Unexpected(absl::string_view found);
  std::string Place() const;
  bool TopKey(string_t& name);
  bool EntryKey(absl::string_view name);
  bool SetDType(absl::string_view name);
  bool FinishEntry();

  const uint64_t data_bytes_;
  SafetensorsHeader* const header_;
  absl::Status status_;

  Where where_ = Where::kOutside;
  bool metadata_seen_ = false;
  std::string metadata_key_;

  // The entry under construction.
  SafetensorsEntry entry_ = {};
  unsigned seen_fields_ = 0;
  Field field_ = kDType;  // the last key
  absl::InlinedVector<int64_t, 8> dims_;
  uint64_t offsets_[2] = {0, 0};
  size_t num_offsets_ = 0;
};

// Where the parser stands and what may come there: "tensor 'w': shape:
// expected ...".
std::string HeaderHandler::Place() const {
  const std::string tensor = absl::StrCat("tensor ", QuoteName(entry_.name));
  switch (where_) {
    case Where::kOutside:
      break;
    case Where::kTop:
      return entry_.name == kMetadataKey
                 ? absl::StrCat(kMetadataKey, ": expected an object")
                 : absl::StrCat(tensor, ": expected an object");
    case Where::kMetadata:
      return absl::StrCat(kMetadataKey, ": ", QuoteName(metadata_key_),
                          ": expected a string");
    case Where::kEntry:
      if (field_ == kDType) {
        return absl::StrCat(tensor, ": dtype: expected a string");
      }
      return absl::StrCat(tensor, ": ",
                          field_ == kShapeField ? "shape" : "data_offsets",
                          ": expected an array");
    case Where::kShape:
      return absl::StrCat(tensor,
                          ": shape: expected integers from 0 to 2^63-1");
    case Where::kOffsets:
      return absl::StrCat(tensor, ": data_offsets: expected two integers from ",
                          "0 to 2^64-1");
  }
  return "header: expected an object";
}

bool HeaderHandler::Unexpected(absl::string_view found) {
  return Fail(Place(), ", found ", found);
}

bool HeaderHandler::number_unsigned(number_unsigned_t value) {
  if (where_ == Where::kShape && FitsIn<int64_t>(value)) {
    if (dims_.size() == kMaxTensorRank) {
      return Fail("tensor ", QuoteName(entry_.name),
                  ": shape: expected at most ", kMaxTensorRank, " dimensions");
    }
    dims_.push_back(static_cast<int64_t>(value));
    return true;
  }
  if (where_ == Where::kOffsets && num_offsets_ < 2) {
    offsets_[num_offsets_++] = value;
    return true;
  }
  return Unexpected(where_ == Where::kOffsets
                        ? "a third value"
                        : absl::StrCat(static_cast<uint64_t>(value)));
}

bool HeaderHandler::string(string_t& value) {
  if (where_ == Where::kEntry && field_ == kDType) return SetDType(value);
  if (where_ != Where::kMetadata) return Unexpected(QuoteName(value));
  if (header_->metadata.size() == kMaxSafetensorsMetadata) {
    return Fail(kMetadataKey, ": expected at most ", kMaxSafetensorsMetadata,
                " entries");
  }
  if (!header_->metadata.emplace(metadata_key_, std::move(value)).second) {
    return Fail(kMetadataKey, ": duplicate key ", QuoteName(metadata_key_));
  }
  return true;
}

bool HeaderHandler::SetDType(absl::string_view name) {
  const absl::optional<DType> dtype = DTypeFromName(name);
  if (dtype.has_value()) {
    entry_.dtype = *dtype;
    return true;
  }
  if (std::find(std::begin(kUnsupportedDTypes), std::end(kUnsupportedDTypes),
                name) != std::end(kUnsupportedDTypes)) {
    status_ = absl::UnimplementedError(
        absl::StrCat("tensor ", QuoteName(entry_.name), ": dtype: ", name,
                     " is not supported"));
    return false;
  }
  return Fail("tensor ", QuoteName(entry_.name),
              ": dtype: expected a type of the format such as 'F32', found ",
              QuoteName(name));
}

bool HeaderHandler::start_object(size_t) {
  if (where_ == Where::kOutside) {
    where_ = Where::kTop;
    return true;
  }
  if (where_ != Where::kTop) return Unexpected("an object");
  if (entry_.name == kMetadataKey) {
    if (metadata_seen_) return Fail("duplicate key ", QuoteName(kMetadataKey));
    metadata_seen_ = true;
    where_ = Where::kMetadata;
  } else {
    where_ = Where::kEntry;
  }
  return true;
}

bool HeaderHandler::key(string_t& name) {
  if (where_ == Where::kTop) return TopKey(name);
  if (where_ == Where::kEntry) return EntryKey(name);
  metadata_key_ = std::move(name);
  return true;
}

bool HeaderHandler::TopKey(string_t& name) {
  if (name.size() > kMaxTensorNameBytes) {
    return Fail("tensor ", QuoteName(name), ": name has ", name.size(),
                " bytes, expected at most ", kMaxTensorNameBytes);
  }
  if (header_->entries.size() == kMaxSafetensorsTensors) {
    return Fail("header: expected at most ", kMaxSafetensorsTensors,
                " tensors");
  }
  entry_.name = std::move(name);
  seen_fields_ = 0;
  dims_.clear();
  num_offsets_ = 0;
  return true;
}

bool HeaderHandler::EntryKey(absl::string_view name) {
  if (name == "dtype") {
    field_ = kDType;
  } else if (name == "shape") {
    field_ = kShapeField;
  } else if (name == "data_offsets") {
    field_ = kOffsetsField;
  } else {
    return Fail("tensor ", QuoteName(entry_.name), ": unknown key ",
                QuoteName(name));
  }
  if ((seen_fields_ & field_) != 0) {
    return Fail("tensor ", QuoteName(entry_.name), ": duplicate key ",
                QuoteName(name));
  }
  seen_fields_ |= field_;
  return true;
}

bool HeaderHandler::start_array(size_t) {
  if (where_ != Where::kEntry || field_ == kDType) {
    return Unexpected("an array");
  }
  where_ = field_ == kShapeField ? Where::kShape : Where::kOffsets;
  return true;
}

bool HeaderHandler::end_array() {
  if (where_ == Where::kOffsets && num_offsets_ != 2) {
    return Unexpected(absl::StrCat(num_offsets_));
  }
  where_ = Where::kEntry;
  return true;
}

bool HeaderHandler::end_object() {
  if (where_ == Where::kTop) {
    where_ = Where::kOutside;
    return true;
  }
  if (where_ == Where::kEntry && !FinishEntry()) return false;
  where_ = Where::kTop;
  return true;
}

bool HeaderHandler::FinishEntry() {
  const unsigned missing = kAllFields & ~seen_fields_;
  if (missing != 0) {
    return Fail("tensor ", QuoteName(entry_.name), ": missing key ",
                (missing & kDType) != 0        ? "'dtype'"
                : (missing & kShapeField) != 0 ? "'shape'"
                                               : "'data_offsets'");
  }
  entry_.shape = Shape(absl::Span<const int64_t>(dims_));
  entry_.begin_bytes = offsets_[0];
  entry_.end_bytes = offsets_[1];
  const auto fail = [this](const auto&... args) {
    return Fail("tensor ", QuoteName(entry_.name), ": data_offsets [",
                offsets_[0], ", ", offsets_[1], "]: ", args...);
  };
  if (entry_.end_bytes < entry_.begin_bytes) {
    return fail("expected an end that is not before the begin");
  }
  if (entry_.end_bytes > data_bytes_) {
    return fail("expected an end within the ", data_bytes_, " bytes of data");
  }
  const CheckedU64 size_bytes =
      entry_.shape.num_elements() * DTypeBytes(entry_.dtype);
  if (!size_bytes.valid()) {
    return Fail("tensor ", QuoteName(entry_.name), ": shape ",
                entry_.shape.ToString(), ": size overflows 64 bits");
  }
  if (size_bytes.value() != entry_.end_bytes - entry_.begin_bytes) {
    return fail("expected ", size_bytes.value(), " bytes for shape ",
                entry_.shape.ToString(), " of ", DTypeName(entry_.dtype),
                ", found ", entry_.end_bytes - entry_.begin_bytes);
  }
  header_->entries.push_back(std::move(entry_));
  entry_ = {};
  return true;
}

bool HeaderHandler::parse_error(size_t position, const std::string&,
                                const nlohmann::detail::exception& error) {
  // The library's message repeats a prefix "[json.exception...] ".
  absl::string_view what = error.what();
  const size_t bracket = what.find("] ");
  if (bracket != absl::string_view::npos) what.remove_prefix(bracket + 2);
  // `position` counts from 1 and from the header's first byte.
  return Fail("header is not valid JSON at byte ", 8 + position - 1, ": ",
              absl::CHexEscape(what.substr(0, 200)));
}

absl::Status CheckNamesAreUnique(const std::vector<SafetensorsEntry>& entries) {
  HashSet<absl::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) {
    if (!names.insert(entry.name).second) {
      return InvalidInputError("duplicate tensor ", QuoteName(entry.name));
    }
  }
  return absl::OkStatus();
}

// Sorts by offset and checks that the tensors lie end to end over all of the
// data: no hole, no overlap, nothing behind the last.
absl::Status CheckTiling(uint64_t data_bytes,
                         std::vector<SafetensorsEntry>* entries) {
  std::sort(entries->begin(), entries->end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin_bytes, a.end_bytes, a.name) <
                     std::tie(b.begin_bytes, b.end_bytes, b.name);
            });
  uint64_t end_bytes = 0;
  absl::string_view previous;
  for (const SafetensorsEntry& entry : *entries) {
    if (entry.begin_bytes != end_bytes) {
      return InvalidInputError(
          "tensor ", QuoteName(entry.name), ": data_offsets: expected begin ",
          end_bytes,
          previous.empty()
              ? std::string()
              : absl::StrCat(", where ", QuoteName(previous), " ends"),
          ", found ", entry.begin_bytes,
          entry.begin_bytes < end_bytes ? " (overlap)" : " (hole)");
    }
    end_bytes = entry.end_bytes;
    previous = entry.name;
  }
  if (end_bytes != data_bytes) {
    return InvalidInputError("data: expected ", end_bytes,
                             " bytes, the end of the last tensor, found ",
                             data_bytes);
  }
  return absl::OkStatus();
}

// The parser keeps copies of the token that it reads and of the white space
// before it: bounds them in headers that are long enough to matter.
absl::Status CheckTokenLengths(absl::string_view text) {
  if (text.size() <= kMaxSafetensorsTokenBytes) return absl::OkStatus();
  size_t begin = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      in_string = !in_string;
      begin = i;
    } else if (in_string && c == '\\') {
      ++i;  // whatever it escapes
    } else if (!in_string && absl::ascii_ispunct(c)) {
      begin = i;
    }
    if (i - begin > kMaxSafetensorsTokenBytes) {
      return InvalidInputError(
          "header: expected at most ", kMaxSafetensorsTokenBytes,
          " bytes in a string, found more at byte ", 8 + begin);
    }
  }
  return absl::OkStatus();
}

// Checks the length field and returns the header's text.
absl::StatusOr<absl::string_view> FindHeader(absl::Span<const uint8_t> file) {
  if (file.size() < 8) {
    return InvalidInputError("file is too short: expected at least 8 bytes, ",
                             "found ", file.size());
  }
  const uint64_t length = LoadLittleEndian64(file.data());
  if (length == 0) return InvalidInputError("header length: found 0");
  if (length > kMaxSafetensorsHeaderBytes) {
    return InvalidInputError("header length: expected at most ",
                             kMaxSafetensorsHeaderBytes, ", found ", length);
  }
  if (length > file.size() - 8) {
    return InvalidInputError("header length: expected at most the ",
                             file.size() - 8, " bytes that follow, found ",
                             length);
  }
  const absl::string_view text(reinterpret_cast<const char*>(file.data()) + 8,
                               length);
  if (text[0] != '{') {
    return InvalidInputError("header: expected '{' at byte 8, found ",
                             QuoteName(text.substr(0, 1)));
  }
  // The parser takes NUL for the end of its input.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return InvalidInputError("header is not valid JSON at byte ", 8 + nul,
                             ": found NUL");
  }
  QEFF_RETURN_IF_ERROR(CheckTokenLengths(text));
  return text;
}

absl::StatusOr<SafetensorsHeader> ParseHeader(absl::Span<const uint8_t> file) {
  QEFF_ASSIGN_OR_RETURN(const absl::string_view text, FindHeader(file));
  SafetensorsHeader header;
  header.data_begin_bytes = 8 + text.size();
  const uint64_t data_bytes = file.size() - header.data_begin_bytes;
  // No entry takes less text than {"dtype":"U8","shape":[],...}: reserving
  // that many avoids copies, and pages that are not used cost nothing.
  constexpr uint64_t kMinEntryBytes = 50;
  header.entries.reserve(
      std::min(kMaxSafetensorsTensors, text.size() / kMinEntryBytes));
  HeaderHandler handler(data_bytes, &header);
  const bool parsed = nlohmann::json::sax_parse(
      text.data(), text.data() + text.size(), &handler);
  QEFF_RETURN_IF_ERROR(handler.status());
  if (!parsed) return InvalidInputError("header is not valid JSON");
  QEFF_RETURN_IF_ERROR(CheckNamesAreUnique(header.entries));
  QEFF_RETURN_IF_ERROR(CheckTiling(data_bytes, &header.entries));
  return header;
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::Span<const uint8_t> file, absl::string_view path) {
  absl::StatusOr<SafetensorsHeader> header = ParseHeader(file);
  if (header.ok()) return header;
  const absl::Status status = Annotate(header.status(), path);
  const absl::string_view kind = ForeignKindOfContent(file);
  if (kind.empty()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(), "; the file looks like ", kind));
}

}  // namespace qeff
