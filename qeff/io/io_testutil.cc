// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/io_testutil.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

void AppendElement(float value, DType dtype, std::string* data) {
  char bytes[sizeof(float)];
  if (dtype == DType::kF32) {
    std::memcpy(bytes, &value, sizeof(value));
  } else {
    QEFF_CHECK(dtype == DType::kF16 || dtype == DType::kBF16);
    const uint16_t half =
        dtype == DType::kF16 ? FloatToF16(value) : FloatToBF16(value);
    std::memcpy(bytes, &half, sizeof(half));
  }
  data->append(bytes, DTypeBytes(dtype));
}

}  // namespace

std::string MakeTestFolder() {
  std::string folder = testing::TempDir() + "/qeff_test_XXXXXX";
  QEFF_CHECK(mkdtemp(&folder[0]) != nullptr);
  return folder;
}

void WriteTestFile(const std::string& path, absl::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  QEFF_CHECK(!file.fail());
}

std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  QEFF_CHECK(file.good());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::string> ListTestFolder(const std::string& folder) {
  DIR* stream = opendir(folder.c_str());
  QEFF_CHECK(stream != nullptr);
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

std::string SafetensorsBytes(absl::string_view header, absl::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>((header.size() >> (8 * i)) & 0xFF));
  }
  absl::StrAppend(&bytes, header, data);
  return bytes;
}

std::string SafetensorsBytes(const std::vector<TestTensor>& tensors,
                             DType dtype) {
  std::string header = "{";
  std::string data;
  for (const TestTensor& tensor : tensors) {
    QEFF_CHECK(tensor.shape.num_elements().value() == tensor.values.size());
    const size_t begin = data.size();
    for (float value : tensor.values) AppendElement(value, dtype, &data);
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", tensor.name,
                    "\":{\"dtype\":\"", DTypeName(dtype), "\",\"shape\":[",
                    absl::StrJoin(tensor.shape.dims(), ","),
                    "],\"data_offsets\":[", begin, ",", data.size(), "]}");
  }
  return SafetensorsBytes(header + "}", data);
}

void WriteTestCheckpoint(const std::string& folder,
                         absl::string_view config_json,
                         const std::vector<TestTensor>& tensors, DType dtype) {
  (void)mkdir(folder.c_str(), 0777);
  WriteTestFile(folder + "/config.json", config_json);
  WriteTestFile(folder + "/model.safetensors",
                SafetensorsBytes(tensors, dtype));
}

void PoisonTestTensor(const std::string& folder, const std::string& name,
                      int64_t index, DType dtype, float value) {
  const std::string path = folder + "/model.safetensors";
  std::string bytes = ReadTestFile(path);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  constexpr absl::string_view kOffsets = "\"data_offsets\":[";
  size_t at = bytes.find(absl::StrCat("\"", name, "\":"));
  QEFF_CHECK(at != std::string::npos);
  at = bytes.find(kOffsets.data(), at);
  QEFF_CHECK(at < header);
  const uint64_t begin =
      std::strtoull(bytes.c_str() + at + kOffsets.size(), nullptr, 10);
  std::string element;
  AppendElement(value, dtype, &element);
  bytes.replace(sizeof(header) + header + begin +
                    static_cast<uint64_t>(index) * DTypeBytes(dtype),
                element.size(), element);
  WriteTestFile(path, bytes);
}

}  // namespace qeff
