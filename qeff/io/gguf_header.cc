// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gguf_header.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qeff/io/file_kind.h"
#include "qeff/io/messages.h"
#include "qeff/util/checked.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kMagic = "GGUF";
constexpr uint32_t kStringType = 8;
constexpr uint32_t kArrayType = 9;

// The least bytes that an entry of each kind takes: key of one byte, type and
// a value of one byte; name of one byte, one dimension, type, offset.
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Takes values off the front of the bytes. Every length is compared with the
// bytes that are left before anything is allocated.
class Cursor {
 public:
  explicit Cursor(absl::Span<const uint8_t> bytes) : bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  // A number of little-endian bytes.
  template <typename T>
  absl::Status Read(T* value) {
    if (left() < sizeof(T)) return Ends(sizeof(T));
    uint8_t raw[sizeof(T)];
    std::memcpy(raw, bytes_.data() + position_, sizeof(T));
    if constexpr (std::is_same_v<T, bool>) {
      if (raw[0] > 1) {
        return InvalidInputError("byte ", position_,
                                 ": expected a bool of 0 or 1, found ", raw[0]);
      }
    }
    std::memcpy(value, raw, sizeof(T));
    position_ += sizeof(T);
    return absl::OkStatus();
  }

  // A string of at most `max_bytes`, valid while the bytes are.
  absl::Status Read(uint64_t max_bytes, absl::string_view* text) {
    const uint64_t begin = position_;
    uint64_t length = 0;
    QEFF_RETURN_IF_ERROR(Read(&length));
    if (length > max_bytes || length > left()) {
      return InvalidInputError("byte ", begin,
                               ": length of a string: expected at most ",
                               std::min(max_bytes, left()), ", found ", length);
    }
    *text = absl::string_view(
        reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return absl::OkStatus();
  }

 private:
  absl::Status Ends(uint64_t wanted) const {
    return InvalidInputError("header ends at byte ", bytes_.size(),
                             ", expected ", wanted, " bytes at ", position_);
  }

  absl::Span<const uint8_t> bytes_;
  uint64_t position_ = 0;
};

class Parser {
 public:
  Parser(absl::Span<const uint8_t> bytes, uint64_t file_bytes)
      : cursor_(bytes), file_bytes_(file_bytes) {}

  absl::StatusOr<GgufHeader> Parse();

 private:
  absl::Status ReadStart(uint64_t* num_tensors, uint64_t* num_metadata);
  absl::Status ReadCount(absl::string_view what, uint64_t limit,
                         uint64_t min_bytes, uint64_t count) const;
  absl::Status ReadEntry();
  template <size_t kType>
  absl::Status ReadValue(uint32_t type, GgufValue* value);
  template <size_t kType>
  absl::Status ReadArray(uint32_t type, uint64_t count, GgufArray* array);
  absl::Status ReadStrings(uint64_t count, GgufStrings* strings);
  absl::Status ReadTensor();
  absl::Status ReadShape(GgufTensorInfo* tensor);
  absl::Status ReadType(GgufTensorInfo* tensor);
  absl::Status FindAlignment();
  absl::Status PlaceTensors();

  Cursor cursor_;
  const uint64_t file_bytes_;
  uint64_t alignment_ = kGgufDefaultAlignment;
  std::vector<uint64_t> offsets_;  // of the tensors, as the file has them
  GgufHeader header_;
};

absl::Status Parser::ReadStart(uint64_t* num_tensors, uint64_t* num_metadata) {
  char magic[4] = {};
  for (char& c : magic) QEFF_RETURN_IF_ERROR(cursor_.Read(&c));
  if (absl::string_view(magic, 4) != kMagic) {
    return InvalidInputError("expected a GGUF file, which begins with 'GGUF'; ",
                             "found ", QuoteName(absl::string_view(magic, 4)));
  }
  QEFF_RETURN_IF_ERROR(cursor_.Read(&header_.version));
  if (header_.version != 2 && header_.version != 3) {
    const bool swapped =
        header_.version != 0 && (header_.version & 0xFFFFFF) == 0;
    return InvalidInputError("version: expected 2 or 3, found ",
                             header_.version,
                             swapped ? " (a big-endian file)" : "");
  }
  QEFF_RETURN_IF_ERROR(cursor_.Read(num_tensors));
  return cursor_.Read(num_metadata);
}

absl::Status Parser::ReadCount(absl::string_view what, uint64_t limit,
                               uint64_t min_bytes, uint64_t count) const {
  const uint64_t most = std::min(limit, cursor_.left() / min_bytes);
  if (count <= most) return absl::OkStatus();
  return InvalidInputError("number of ", what, ": expected at most ", most,
                           ", found ", count);
}

// Reads twice: first for the sum of the lengths, so that memory is taken once.
absl::Status Parser::ReadStrings(uint64_t count, GgufStrings* strings) {
  QEFF_RETURN_IF_ERROR(ReadCount("strings", ~uint64_t{0}, 8, count));
  Cursor ahead = cursor_;
  absl::string_view text;
  size_t bytes = 0;
  for (uint64_t i = 0; i < count; ++i) {
    QEFF_RETURN_IF_ERROR(ahead.Read(~uint64_t{0}, &text));
    bytes += text.size();
  }
  strings->reserve(count, bytes);
  for (uint64_t i = 0; i < count; ++i) {
    QEFF_RETURN_IF_ERROR(cursor_.Read(~uint64_t{0}, &text));
    strings->push_back(text);
  }
  return absl::OkStatus();
}

// Reads an array whose elements have type number `type`, which is kType or a
// larger one.
template <size_t kType>
absl::Status Parser::ReadArray(uint32_t type, uint64_t count,
                               GgufArray* array) {
  if constexpr (kType < std::variant_size_v<GgufArray>) {
    if (type != kType) return ReadArray<kType + 1>(type, count, array);
    using Array = std::variant_alternative_t<kType, GgufArray>;
    if constexpr (kType == kArrayType) {
      return InvalidInputError("arrays of arrays are not supported");
    } else if constexpr (kType == kStringType) {
      return ReadStrings(count, &array->emplace<kType>());
    } else {
      using T = typename Array::value_type;
      QEFF_RETURN_IF_ERROR(
          ReadCount("elements", ~uint64_t{0}, sizeof(T), count));
      Array& values = array->emplace<kType>();
      values.reserve(count);
      for (uint64_t i = 0; i < count; ++i) {
        T value;
        QEFF_RETURN_IF_ERROR(cursor_.Read(&value));
        values.push_back(value);
      }
    }
    return absl::OkStatus();
  }
  return InvalidInputError("type of elements: expected 0 to 12, found ", type);
}

// Reads a value of type number `type`, which is kType or a larger one.
template <size_t kType>
absl::Status Parser::ReadValue(uint32_t type, GgufValue* value) {
  if constexpr (kType < std::variant_size_v<GgufValue>) {
    if (type != kType) return ReadValue<kType + 1>(type, value);
    auto& typed = value->emplace<kType>();
    if constexpr (kType == kArrayType) {
      uint32_t element_type = 0;
      uint64_t count = 0;
      QEFF_RETURN_IF_ERROR(cursor_.Read(&element_type));
      QEFF_RETURN_IF_ERROR(cursor_.Read(&count));
      return ReadArray<0>(element_type, count, &typed);
    } else if constexpr (kType == kStringType) {
      absl::string_view text;
      QEFF_RETURN_IF_ERROR(cursor_.Read(~uint64_t{0}, &text));
      typed.assign(text.data(), text.size());
      return absl::OkStatus();
    } else {
      return cursor_.Read(&typed);
    }
  }
  return InvalidInputError("type: expected 0 to 12, found ", type);
}

absl::Status Parser::ReadEntry() {
  absl::string_view key;
  uint32_t type = 0;
  QEFF_RETURN_IF_ERROR(cursor_.Read(kMaxGgufKeyBytes, &key), "a key");
  if (key.empty()) {
    return InvalidInputError("an empty key before byte ", cursor_.position());
  }
  const std::string context = absl::StrCat("key ", QuoteName(key));
  QEFF_RETURN_IF_ERROR(cursor_.Read(&type), context);
  GgufValue value;
  QEFF_RETURN_IF_ERROR(ReadValue<0>(type, &value), context);
  header_.metadata.emplace_back(std::string(key), std::move(value));
  return absl::OkStatus();
}

absl::Status Parser::ReadShape(GgufTensorInfo* tensor) {
  uint32_t rank = 0;
  QEFF_RETURN_IF_ERROR(cursor_.Read(&rank));
  if (rank < 1 || rank > kMaxGgufRank) {
    return InvalidInputError("number of dimensions: expected 1 to ",
                             kMaxGgufRank, ", found ", rank);
  }
  int64_t dims[kMaxGgufRank];  // outermost first
  for (uint32_t i = 0; i < rank; ++i) {
    uint64_t dim = 0;
    QEFF_RETURN_IF_ERROR(cursor_.Read(&dim));
    if (dim == 0 || !FitsIn<int64_t>(dim)) {
      return InvalidInputError("dimension ", i,
                               ": expected 1 to 2^63-1, found ", dim);
    }
    dims[rank - 1 - i] = static_cast<int64_t>(dim);
  }
  tensor->shape = Shape(absl::Span<const int64_t>(dims, rank));
  return absl::OkStatus();
}

absl::Status Parser::ReadType(GgufTensorInfo* tensor) {
  uint32_t type = 0;
  QEFF_RETURN_IF_ERROR(cursor_.Read(&type));
  tensor->type = static_cast<GgmlType>(type);
  const GgmlTypeTraits* traits = FindGgmlType(tensor->type);
  if (traits == nullptr) {
    return InvalidInputError("type: ", type, " is none of ggml's types");
  }
  const Shape& shape = tensor->shape;
  if (shape[shape.rank() - 1] % traits->block_elems != 0) {
    return InvalidInputError(
        "shape ", shape.ToString(), ": expected rows of a multiple of ",
        traits->block_elems, " elements for ", traits->name);
  }
  const CheckedU64 elems = shape.num_elements();
  const CheckedU64 size_bytes =
      CheckedU64(elems.AtMost(INT64_MAX) ? elems.value() / traits->block_elems
                                         : ~uint64_t{0}) *
      traits->block_bytes;
  if (!size_bytes.AtMost(file_bytes_)) {
    return InvalidInputError("shape ", shape.ToString(), " of ", traits->name,
                             ": needs more than the ", file_bytes_,
                             " bytes of the file");
  }
  tensor->size_bytes = size_bytes.value();
  return absl::OkStatus();
}

absl::Status Parser::ReadTensor() {
  absl::string_view name;
  QEFF_RETURN_IF_ERROR(cursor_.Read(kMaxGgufTensorNameBytes, &name),
                       "name of a tensor");
  if (name.empty()) {
    return InvalidInputError("a tensor without a name before byte ",
                             cursor_.position());
  }
  const std::string context = absl::StrCat("tensor ", QuoteName(name));
  GgufTensorInfo tensor;
  tensor.name = std::string(name);
  QEFF_RETURN_IF_ERROR(ReadShape(&tensor), context);
  QEFF_RETURN_IF_ERROR(ReadType(&tensor), context);
  uint64_t offset = 0;
  QEFF_RETURN_IF_ERROR(cursor_.Read(&offset), context);
  offsets_.push_back(offset);
  header_.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status Parser::FindAlignment() {
  for (const auto& entry : header_.metadata) {
    if (entry.first != kGgufAlignmentKey) continue;
    const auto* value = std::get_if<uint32_t>(&entry.second);
    if (value == nullptr || *value < 8 || *value > kMaxGgufAlignment ||
        (*value & (*value - 1)) != 0) {
      return InvalidInputError(
          kGgufAlignmentKey, ": expected a u32 that is a power of 2 from 8 to ",
          kMaxGgufAlignment, ", found ",
          value == nullptr ? absl::StrCat("type ", entry.second.index())
                           : absl::StrCat(*value));
    }
    alignment_ = *value;
  }
  return absl::OkStatus();
}

// Checks the offsets against the running sum of padded sizes, and the end of
// the last tensor against that of the file.
absl::Status Parser::PlaceTensors() {
  const auto pad = [this](CheckedU64 bytes) {
    if (!(bytes + (alignment_ - 1)).valid()) return bytes + (alignment_ - 1);
    return CheckedU64(RoundUp(bytes.value(), alignment_));
  };
  const uint64_t begin = RoundUp(cursor_.position(), alignment_);
  header_.data_begin_bytes = begin;
  CheckedU64 end = header_.tensors.empty() ? cursor_.position() : begin;
  CheckedU64 padded_end = begin;
  for (size_t i = 0; i < header_.tensors.size(); ++i) {
    GgufTensorInfo& tensor = header_.tensors[i];
    const uint64_t expected = padded_end.value() - begin;
    if (offsets_[i] != expected) {
      return InvalidInputError("tensor ", QuoteName(tensor.name),
                               ": offset: expected ", expected, ", found ",
                               offsets_[i]);
    }
    tensor.begin_bytes = padded_end.value();
    end = padded_end + tensor.size_bytes;
    padded_end = pad(end);
    if (!padded_end.valid() || end.value() > file_bytes_) {
      return InvalidInputError("tensor ", QuoteName(tensor.name), ": expected ",
                               tensor.size_bytes, " bytes at ",
                               tensor.begin_bytes, ", but the file has ",
                               file_bytes_, " bytes");
    }
  }
  if (file_bytes_ > padded_end.value()) {
    return InvalidInputError("file: expected ", end.value(),
                             " bytes, padding aside, found ", file_bytes_);
  }
  return absl::OkStatus();
}

template <typename List, typename NameOf>
absl::Status CheckUnique(const List& list, absl::string_view what,
                         NameOf name_of) {
  HashSet<absl::string_view> names;
  names.reserve(list.size());
  for (const auto& item : list) {
    if (!names.insert(name_of(item)).second) {
      return InvalidInputError("duplicate ", what, " ",
                               QuoteName(name_of(item)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufHeader> Parser::Parse() {
  uint64_t num_tensors = 0;
  uint64_t num_metadata = 0;
  QEFF_RETURN_IF_ERROR(ReadStart(&num_tensors, &num_metadata));
  QEFF_RETURN_IF_ERROR(
      ReadCount("keys", kMaxGgufMetadata, kMinMetadataBytes, num_metadata));
  for (uint64_t i = 0; i < num_metadata; ++i) {
    QEFF_RETURN_IF_ERROR(ReadEntry());
  }
  QEFF_RETURN_IF_ERROR(CheckUnique(
      header_.metadata, "key",
      [](const auto& entry) { return absl::string_view(entry.first); }));
  QEFF_RETURN_IF_ERROR(FindAlignment());
  QEFF_RETURN_IF_ERROR(
      ReadCount("tensors", kMaxGgufTensors, kMinTensorBytes, num_tensors));
  for (uint64_t i = 0; i < num_tensors; ++i) {
    QEFF_RETURN_IF_ERROR(ReadTensor());
  }
  QEFF_RETURN_IF_ERROR(CheckUnique(
      header_.tensors, "tensor",
      [](const auto& tensor) { return absl::string_view(tensor.name); }));
  QEFF_RETURN_IF_ERROR(PlaceTensors());
  return std::move(header_);
}

}  // namespace

absl::StatusOr<GgufHeader> ParseGgufHeader(absl::Span<const uint8_t> bytes,
                                           uint64_t file_bytes,
                                           absl::string_view path) {
  absl::StatusOr<GgufHeader> header = Parser(bytes, file_bytes).Parse();
  if (header.ok()) return header;
  const absl::Status status = Annotate(header.status(), path);
  const absl::string_view kind = ForeignKindOfContent(bytes);
  if (kind.empty() || absl::StartsWith(kind, "a GGUF")) return status;
  return InvalidInputError(status.message(), "; the file looks like ", kind);
}

}  // namespace qeff
