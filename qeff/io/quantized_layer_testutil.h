// SPDX-License-Identifier: Apache-2.0
//
// Tiny quantized layers, for the tests of what reads them.

#ifndef QEFF_IO_QUANTIZED_LAYER_TESTUTIL_H_
#define QEFF_IO_QUANTIZED_LAYER_TESTUTIL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/util/json.h"
#include "qeff/util/random.h"

namespace qeff {

// One stored tensor as text for a header and bytes.
struct RawTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

inline std::shared_ptr<const Checkpoint> OpenLayer(
    const std::vector<RawTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const RawTensor& tensor : tensors) {
    Json entry;
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {data.size(), data.size() + tensor.bytes.size()};
    header[tensor.name] = entry;
    data += tensor.bytes;
  }
  const std::string folder = MakeTestFolder();
  WriteTestFile(folder + "/config.json", "{}");
  WriteTestFile(folder + "/model.safetensors",
                SafetensorsBytes(header.dump(), data));
  auto checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *checkpoint;
}

inline std::vector<float> ValuesOf(const QuantizedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  EXPECT_TRUE(DequantizeRows(matrix, 0, matrix.rows, values.data()).ok());
  return values;
}

// A layer "m" of [2, 64] in blocks of `type` with random bytes, whose scales
// are finite.
inline std::vector<RawTensor> Blocks(GgmlType type, int64_t cols) {
  const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
  const int64_t row_bytes = cols / format.block_elems * format.block_bytes;
  std::string bytes;
  Random random(3);
  for (int64_t b = 0; b < 2 * row_bytes / format.block_bytes; ++b) {
    GgmlBlockParams params;
    params.d = 0.25f;
    params.dmin = format.has_offsets() ? 0.5f : 0.0f;
    int8_t codes[kMaxGgmlBlockElems];
    for (int8_t& code : params.scale_codes) {
      code = static_cast<int8_t>(1 + random.NextBelow(60));
    }
    for (int8_t& code : codes) {
      code = static_cast<int8_t>(format.min_code +
                                 static_cast<int>(random.NextBelow(16)));
    }
    std::vector<uint8_t> block(static_cast<size_t>(format.block_bytes));
    PackGgmlBlock(
        type, params,
        absl::MakeSpan(codes, static_cast<size_t>(format.block_elems)),
        absl::MakeSpan(block));
    bytes += Bytes(block);
  }
  return {{"m.weight_blocks", "U8", {2, row_bytes}, bytes},
          {"m.weight_shape", "I64", {2}, Bytes<int64_t>({2, cols})}};
}

inline QuantizationConfig BlocksConfig(GgmlType type) {
  WeightQuantization weights;
  weights.ggml = type;
  return QuantizationConfig::Create(QuantizedLayout::kQeff,
                                    {{{"Linear"}, weights}}, {})
      .value();
}

// A layer "m" of [2, cols] in the codebook `name`: codes 1, 2, ... 12, 1, ...
// along the first row and 3, 4, ... 14, 3, ... along the second; scales of 2.
inline std::vector<RawTensor> CodebookLayer(const std::string& name,
                                            int64_t cols) {
  const QuantScheme scheme = *ParseQuantScheme(name);
  const QuantizedShape shape(scheme, 2, cols);
  const DType scale_dtype = ScaleDType(scheme, DType::kBF16);
  std::vector<uint8_t> packed(static_cast<size_t>(2 * shape.row_bytes));
  for (size_t r = 0; r < 2; ++r) {
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    for (size_t c = 0; c < codes.size(); ++c) {
      codes[c] = static_cast<uint8_t>(1 + 2 * r + c % 12);
    }
    const size_t row_bytes = static_cast<size_t>(shape.row_bytes);
    PackCodebookRow(scheme.bits, codes,
                    absl::MakeSpan(packed).subspan(r * row_bytes, row_bytes));
  }
  const size_t size = DTypeBytes(scale_dtype);
  std::vector<uint8_t> scales(static_cast<size_t>(2 * shape.groups) * size);
  for (size_t i = 0; i < scales.size(); i += size) {
    StoreCodebookScale(2.0f, scale_dtype, scales.data() + i);
  }
  const std::string bytes[] = {Bytes(packed), Bytes(scales),
                               Bytes<int64_t>({2, cols})};
  std::vector<RawTensor> layer;
  for (const auto& tensor : QuantizedTensors("m", shape, scale_dtype)) {
    std::vector<int64_t> dims;
    for (size_t d = 0; d < tensor.shape.rank(); ++d) {
      dims.push_back(tensor.shape[d]);
    }
    layer.push_back({tensor.name, std::string(DTypeName(tensor.dtype)), dims,
                     bytes[layer.size()]});
  }
  return layer;
}

inline QuantizationConfig CodebookConfig(const std::string& name) {
  return QuantizationConfig::Create(
             QuantizedLayout::kQeff,
             {{{"Linear"},
               WeightQuantization::FromScheme(*ParseQuantScheme(name))}},
             {})
      .value();
}

}  // namespace qeff

#endif  // QEFF_IO_QUANTIZED_LAYER_TESTUTIL_H_
