// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/package_format.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"
#include "qeff/device/package/header_message.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/checksum.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What precedes the message; the checksum follows it.
struct Preamble {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
};
static_assert(sizeof(Preamble) == 24);

constexpr char kMagic[8] = {'q', 'e', 'f', 'f', 'p', 'k', 'g', '\0'};

// Bytes from the start of the file through the checksum of the header.
uint64_t StartBytes(uint64_t header_bytes) {
  return sizeof(Preamble) + header_bytes + sizeof(uint64_t);
}

// Places sections one behind another.
class Placer {
 public:
  explicit Placer(uint64_t start_bytes) : end_(start_bytes) {}

  absl::Status Place(CheckedU64 bytes, PackageSection* section) {
    const CheckedU64 padded = end_ + (kPackageAlignment - 1);
    if (!bytes.valid() || !padded.valid()) {
      return InvalidInputError("its bytes cannot be counted");
    }
    section->offset = padded.value() / kPackageAlignment * kPackageAlignment;
    section->bytes = bytes.value();
    end_ = CheckedU64(section->offset) + bytes;
    return end_.valid() ? absl::OkStatus()
                        : InvalidInputError("its bytes cannot be counted");
  }

  uint64_t end() const { return end_.value(); }

 private:
  CheckedU64 end_;
};

// PlacePackage for a header whose message has `header_bytes`.
absl::Status Place(uint64_t header_bytes, PackageHeader* header) {
  Placer placer(StartBytes(header_bytes));
  if (header->tokenizer.has_value()) {
    QEFF_RETURN_IF_ERROR(
        placer.Place(header->tokenizer->bytes, &*header->tokenizer),
        "tokenizer");
  }
  for (PackageTensor& tensor : header->tensors) {
    if (tensor.rows < 1 || tensor.cols < 1) {
      return InvalidInputError(TensorName(tensor.id), ": expected a shape ",
                               "without zeros, found [", tensor.rows, ", ",
                               tensor.cols, "]");
    }
    QEFF_RETURN_IF_ERROR(
        placer.Place(LayoutBytes(tensor.layout, tensor.rows, tensor.cols),
                     &tensor.data),
        TensorName(tensor.id));
  }
  header->file_bytes = placer.end();
  return absl::OkStatus();
}

absl::Status CheckSection(const PackageSection& expected,
                          const PackageSection& found) {
  if (found.offset != expected.offset) {
    return InvalidInputError("offset: expected ", expected.offset, ", found ",
                             found.offset);
  }
  if (found.bytes != expected.bytes) {
    return InvalidInputError("bytes: expected ", expected.bytes, ", found ",
                             found.bytes);
  }
  return absl::OkStatus();
}

// That everything is where Place would put it.
absl::Status CheckPlaces(uint64_t header_bytes, const PackageHeader& header) {
  PackageHeader expected = header;
  QEFF_RETURN_IF_ERROR(Place(header_bytes, &expected));
  if (header.tokenizer.has_value()) {
    QEFF_RETURN_IF_ERROR(CheckSection(*expected.tokenizer, *header.tokenizer),
                         "tokenizer");
  }
  for (size_t i = 0; i < header.tensors.size(); ++i) {
    QEFF_RETURN_IF_ERROR(
        CheckSection(expected.tensors[i].data, header.tensors[i].data),
        TensorName(header.tensors[i].id));
  }
  if (expected.file_bytes != header.file_bytes) {
    return InvalidInputError("file size: the tensors end at ",
                             expected.file_bytes, ", the file at ",
                             header.file_bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<Preamble> ReadPreamble(absl::Span<const uint8_t> file) {
  Preamble preamble;
  if (file.size() < sizeof(preamble)) {
    return InvalidInputError("not a device package: ", file.size(), " bytes");
  }
  std::memcpy(&preamble, file.data(), sizeof(preamble));
  if (std::memcmp(preamble.magic, kMagic, sizeof(kMagic)) != 0) {
    return InvalidInputError(
        "not a device package: does not begin with \"qeffpkg\"");
  }
  if (preamble.version != kPackageVersion) {
    return InvalidInputError("format version: expected ", kPackageVersion,
                             ", found ", preamble.version,
                             ": compile the model again");
  }
  if (preamble.file_bytes != file.size()) {
    return InvalidInputError("file size: expected ", preamble.file_bytes,
                             " bytes, found ", file.size(),
                             preamble.file_bytes > file.size()
                                 ? ": the file is truncated"
                                 : ": bytes were appended");
  }
  if (preamble.header_bytes > kMaxHeaderBytes ||
      StartBytes(preamble.header_bytes) > file.size()) {
    return InvalidInputError("header size: expected at most ", kMaxHeaderBytes,
                             " and within the file of ", file.size(),
                             " bytes, found ", preamble.header_bytes);
  }
  return preamble;
}

// The message of a header, if its bytes are those that a writer makes of it.
absl::StatusOr<proto::PackageHeader> ParseMessage(absl::string_view bytes) {
  proto::PackageHeader message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return InvalidInputError("header: not a valid protocol buffer");
  }
  // One way to write a header: no field twice, none out of order.
  if (message.SerializeAsString() != std::string(bytes)) {
    return InvalidInputError("header: not in the form that writers give it");
  }
  return message;
}

}  // namespace

absl::Status PlacePackage(PackageHeader* header) {
  // Offsets and sizes have fixed lengths once they are set.
  const size_t header_bytes = PackageHeaderToMessage(*header).ByteSizeLong();
  if (header_bytes > kMaxHeaderBytes) {
    return InvalidInputError("header: expected at most ", kMaxHeaderBytes,
                             " bytes, found ", header_bytes);
  }
  return Place(header_bytes, header);
}

std::string EncodePackageStart(const PackageHeader& header) {
  const std::string message =
      PackageHeaderToMessage(header).SerializeAsString();
  Preamble preamble;
  std::memcpy(preamble.magic, kMagic, sizeof(kMagic));
  preamble.version = kPackageVersion;
  preamble.header_bytes = IntCast<uint32_t>(message.size());
  preamble.file_bytes = header.file_bytes;
  std::string start(reinterpret_cast<const char*>(&preamble), sizeof(preamble));
  start += message;
  const uint64_t checksum = Checksum64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(start.data()), start.size()));
  start.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return start;
}

absl::StatusOr<PackageHeader> DecodePackageStart(
    absl::Span<const uint8_t> file) {
  QEFF_ASSIGN_OR_RETURN(const Preamble preamble, ReadPreamble(file));
  const size_t checked_bytes = sizeof(Preamble) + preamble.header_bytes;
  uint64_t checksum;
  std::memcpy(&checksum, file.data() + checked_bytes, sizeof(checksum));
  const uint64_t found = Checksum64(file.subspan(0, checked_bytes));
  if (found != checksum) {
    return InvalidInputError("header checksum: expected ", checksum, ", found ",
                             found, ": the file is damaged");
  }
  const absl::string_view bytes(
      reinterpret_cast<const char*>(file.data()) + sizeof(Preamble),
      preamble.header_bytes);
  QEFF_ASSIGN_OR_RETURN(const proto::PackageHeader message,
                        ParseMessage(bytes));
  QEFF_ASSIGN_OR_RETURN(PackageHeader header,
                        PackageHeaderFromMessage(message));
  header.file_bytes = preamble.file_bytes;
  QEFF_RETURN_IF_ERROR(CheckPlaces(preamble.header_bytes, header));
  return header;
}

uint64_t PackageStartBytes(absl::Span<const uint8_t> file) {
  Preamble preamble;
  QEFF_CHECK(file.size() >= sizeof(preamble));
  std::memcpy(&preamble, file.data(), sizeof(preamble));
  return StartBytes(preamble.header_bytes);
}

}  // namespace qeff
