// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/package/header_message.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/spec/transformer_spec_proto.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr std::pair<DType, proto::DType> kDTypes[] = {
    {DType::kF32, proto::DTYPE_F32},
    {DType::kF16, proto::DTYPE_F16},
    {DType::kBF16, proto::DTYPE_BF16},
    {DType::kI8, proto::DTYPE_I8}};
constexpr std::pair<PackageTarget, proto::Target> kTargets[] = {
    {PackageTarget::kGeneric, proto::TARGET_GENERIC},
    {PackageTarget::kX86_64, proto::TARGET_X86_64},
    {PackageTarget::kAArch64, proto::TARGET_AARCH64}};
constexpr std::pair<Activations, proto::Activations> kActivations[] = {
    {Activations::kFast, proto::ACTIVATIONS_FAST},
    {Activations::kFloat32, proto::ACTIVATIONS_FLOAT32}};

template <class A, class B, size_t N>
B ToWire(const std::pair<A, B> (&table)[N], A value) {
  for (const auto& [a, b] : table) {
    if (a == value) return b;
  }
  QEFF_CHECK(!"a value that the format does not have");
  return {};
}

template <class A, class B, size_t N>
absl::optional<A> FromWire(const std::pair<A, B> (&table)[N], B value) {
  for (const auto& [a, b] : table) {
    if (b == value) return a;
  }
  return absl::nullopt;
}

template <class A, class B, size_t N>
absl::Status TakeEnum(absl::string_view field,
                      const std::pair<A, B> (&table)[N], bool has, B value,
                      A* result) {
  const absl::optional<A> known = FromWire(table, value);
  if (!has || !known.has_value()) {
    return InvalidInputError(
        field, ": missing, or a value that this version does not know");
  }
  *result = *known;
  return absl::OkStatus();
}

// Messages whose fields are all needed, and those that have an unknown one.
absl::Status CheckWhole(absl::string_view what, bool has_all,
                        const std::string& unknown_fields) {
  if (!has_all) return InvalidInputError(what, ": a field is missing");
  if (!unknown_fields.empty()) {
    return InvalidInputError(
        what, ": has a field or value that this version does not know");
  }
  return absl::OkStatus();
}

void FillSection(const PackageSection& section, proto::Section* m) {
  m->set_offset(section.offset);
  m->set_bytes(section.bytes);
  m->set_checksum(section.checksum);
}

absl::StatusOr<PackageSection> TakeSection(const proto::Section& m) {
  QEFF_RETURN_IF_ERROR(
      CheckWhole("section", m.has_offset() && m.has_bytes() && m.has_checksum(),
                 m.unknown_fields()));
  return PackageSection{m.offset(), m.bytes(), m.checksum()};
}

void FillTensor(const PackageTensor& tensor, proto::Tensor* m) {
  m->set_role(static_cast<int32_t>(tensor.id.role));
  if (tensor.id.block >= 0) m->set_block(tensor.id.block);
  m->set_rows(tensor.rows);
  m->set_cols(tensor.cols);
  if (const auto* rows = std::get_if<FloatRows>(&tensor.layout)) {
    m->mutable_float_rows()->set_dtype(ToWire(kDTypes, rows->dtype));
  } else if (const auto* ints = std::get_if<PackedIntLayout>(&tensor.layout)) {
    proto::PackedInt* packed = m->mutable_packed_int();
    packed->set_bits(ints->bits());
    packed->set_group_elems(ints->group_elems());
    packed->set_scale_dtype(ToWire(kDTypes, ints->scale_dtype()));
    packed->set_zero_points(ints->asymmetric());
    if (tensor.input_scale != 0) packed->set_input_scale(tensor.input_scale);
    if (ints->sparse()) {
      packed->mutable_sparse()->set_values_bytes(
          ints->sparse_codes().values_bytes);
      packed->mutable_sparse()->set_two_of_four(
          ints->sparse_codes().two_of_four);
    }
  } else {
    const auto& bf16 = std::get<PackedBF16Layout>(tensor.layout);
    proto::PackedBF16* packed = m->mutable_packed_bf16();
    if (bf16.sparse()) packed->set_values_bytes(bf16.values_bytes());
  }
  FillSection(tensor.data, m->mutable_data());
}

absl::StatusOr<WeightLayout> TakePackedInt(const proto::PackedInt& m,
                                           int64_t rows, int64_t cols) {
  QEFF_RETURN_IF_ERROR(CheckWhole("packed_int",
                                  m.has_bits() && m.has_group_elems() &&
                                      m.has_scale_dtype() &&
                                      m.has_zero_points(),
                                  m.unknown_fields()));
  DType scale_dtype = DType::kF32;
  QEFF_RETURN_IF_ERROR(
      TakeEnum("scale_dtype", kDTypes, true, m.scale_dtype(), &scale_dtype));
  // A group of 0 means "whole rows" to Create, and has no place in a file.
  if (m.group_elems() < 1 || m.group_elems() > cols) {
    return InvalidInputError("group: expected 1 to ", cols, " columns, found ",
                             m.group_elems());
  }
  QEFF_ASSIGN_OR_RETURN(
      const PackedIntLayout layout,
      PackedIntLayout::Create(m.bits(), rows, cols, m.group_elems(),
                              scale_dtype, m.zero_points()));
  if (!m.has_sparse()) return WeightLayout(layout);
  const proto::Sparse& codes = m.sparse();
  QEFF_RETURN_IF_ERROR(
      CheckWhole("sparse", codes.has_values_bytes() && codes.has_two_of_four(),
                 codes.unknown_fields()));
  QEFF_ASSIGN_OR_RETURN(
      const PackedIntLayout sparse,
      layout.Sparse({codes.values_bytes(), codes.two_of_four()}));
  return WeightLayout(sparse);
}

absl::StatusOr<WeightLayout> TakeLayout(const proto::Tensor& m) {
  switch (m.layout_case()) {
    case proto::Tensor::kFloatRows: {
      FloatRows rows;
      const proto::FloatRows& floats = m.float_rows();
      QEFF_RETURN_IF_ERROR(CheckWhole("float_rows", floats.has_dtype(),
                                      floats.unknown_fields()));
      QEFF_RETURN_IF_ERROR(
          TakeEnum("dtype", kDTypes, true, floats.dtype(), &rows.dtype));
      if (!MatVecSupports(rows.dtype)) {
        return InvalidInputError("dtype: expected F32, F16 or BF16, found ",
                                 DTypeName(rows.dtype));
      }
      return WeightLayout(rows);
    }
    case proto::Tensor::kPackedInt:
      return TakePackedInt(m.packed_int(), m.rows(), m.cols());
    case proto::Tensor::kPackedBf16: {
      QEFF_RETURN_IF_ERROR(
          CheckWhole("packed_bf16", true, m.packed_bf16().unknown_fields()));
      QEFF_ASSIGN_OR_RETURN(const PackedBF16Layout layout,
                            PackedBF16Layout::Create(m.rows(), m.cols()));
      if (!m.packed_bf16().has_values_bytes()) return WeightLayout(layout);
      QEFF_ASSIGN_OR_RETURN(const PackedBF16Layout sparse,
                            layout.Sparse(m.packed_bf16().values_bytes()));
      return WeightLayout(sparse);
    }
    case proto::Tensor::LAYOUT_NOT_SET:
      break;
  }
  return InvalidInputError("layout: missing or unknown");
}

absl::StatusOr<PackageTensor> TakeTensor(const proto::Tensor& m) {
  QEFF_RETURN_IF_ERROR(CheckWhole(
      "tensor", m.has_role() && m.has_rows() && m.has_cols() && m.has_data(),
      m.unknown_fields()));
  if (m.role() < 1 || m.role() > kMaxTensorRole) {
    return InvalidInputError("role: expected 1 to ", kMaxTensorRole, ", found ",
                             m.role());
  }
  PackageTensor tensor;
  tensor.id.role = static_cast<TensorRole>(m.role());
  tensor.id.block = m.has_block() ? m.block() : -1;
  if (m.has_block() != IsInBlock(tensor.id.role) ||
      (m.has_block() && m.block() < 0)) {
    return InvalidInputError("block: does not fit role ", m.role());
  }
  const std::string name = TensorName(tensor.id);
  tensor.rows = m.rows();
  tensor.cols = m.cols();
  QEFF_ASSIGN_OR_RETURN(tensor.layout, TakeLayout(m), name);
  if (m.packed_int().has_input_scale()) {
    tensor.input_scale = m.packed_int().input_scale();
    // 0 is what the field's absence says.
    if (!IsActivationScale(tensor.input_scale)) {
      return InvalidInputError(name, ": input_scale: found ",
                               tensor.input_scale);
    }
  }
  QEFF_ASSIGN_OR_RETURN(tensor.data, TakeSection(m.data()), name);
  return tensor;
}

absl::StatusOr<EngineOptions> TakeOptions(const proto::CompileOptions& m) {
  QEFF_RETURN_IF_ERROR(CheckWhole(
      "options",
      m.has_context_length() && m.has_batch_size() && m.has_prefill_chunk() &&
          m.has_kv_cache() && m.has_activations(),
      m.unknown_fields()));
  EngineOptions options;
  options.context_length = m.context_length();
  options.batch_size = m.batch_size();
  options.prefill_chunk = m.prefill_chunk();
  QEFF_RETURN_IF_ERROR(TakeEnum("activations", kActivations, true,
                                m.activations(), &options.activations));
  QEFF_RETURN_IF_ERROR(
      TakeEnum("kv_cache", kDTypes, true, m.kv_cache(), &options.kv_cache));
  if (options.kv_cache == DType::kBF16) {
    return InvalidInputError("kv_cache: expected F32, F16 or I8, found BF16");
  }
  return options;
}

}  // namespace

proto::PackageHeader PackageHeaderToMessage(const PackageHeader& header) {
  proto::PackageHeader m;
  m.set_producer(header.producer);
  m.set_target(ToWire(kTargets, header.target));
  *m.mutable_spec() = TransformerSpecToProto(header.spec);
  const EngineOptions& engine = header.options;
  proto::CompileOptions* options = m.mutable_options();
  options->set_context_length(engine.context_length);
  options->set_batch_size(engine.batch_size);
  options->set_prefill_chunk(engine.prefill_chunk);
  options->set_kv_cache(ToWire(kDTypes, header.options.kv_cache));
  options->set_activations(ToWire(kActivations, engine.activations));
  if (header.tokenizer.has_value()) {
    FillSection(*header.tokenizer, m.mutable_tokenizer());
  }
  for (const PackageTensor& tensor : header.tensors) {
    FillTensor(tensor, m.add_tensors());
  }
  return m;
}

absl::StatusOr<PackageHeader> PackageHeaderFromMessage(
    const proto::PackageHeader& m) {
  QEFF_RETURN_IF_ERROR(CheckWhole(
      "header",
      m.has_producer() && m.has_target() && m.has_spec() && m.has_options(),
      m.unknown_fields()));
  PackageHeader header;
  header.producer = m.producer();
  QEFF_RETURN_IF_ERROR(
      TakeEnum("target", kTargets, true, m.target(), &header.target));
  QEFF_ASSIGN_OR_RETURN(header.spec, TransformerSpecFromProto(m.spec()),
                        "spec");
  QEFF_ASSIGN_OR_RETURN(header.options, TakeOptions(m.options()));
  if (m.has_tokenizer()) {
    QEFF_ASSIGN_OR_RETURN(header.tokenizer, TakeSection(m.tokenizer()),
                          "tokenizer");
  }
  header.tensors.reserve(static_cast<size_t>(m.tensors_size()));
  for (int i = 0; i < m.tensors_size(); ++i) {
    QEFF_ASSIGN_OR_RETURN(PackageTensor tensor, TakeTensor(m.tensors(i)),
                          absl::StrCat("tensors[", i, "]"));
    header.tensors.push_back(std::move(tensor));
  }
  return header;
}

}  // namespace qeff
