// SPDX-License-Identifier: Apache-2.0
//
// A GGUF file: its header, every row of every tensor, then as a model.

#include <filesystem>
#include <system_error>
#include <vector>

#include "qeff/export/import_gguf.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/gguf_file.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Status ReadRows(const GgufFile& file) {
  for (const GgufTensorInfo& tensor : file.header().tensors) {
    ReadAllBytes(file.Bytes(tensor));
    std::vector<float> row(static_cast<size_t>(GgufRowElems(tensor)));
    for (int64_t r = 0; r < GgufRows(tensor); ++r) {
      QEFF_RETURN_IF_ERROR(file.ReadRows(tensor, r, absl::MakeSpan(row)));
    }
  }
  return absl::OkStatus();
}

// Writes it as a folder and opens that.
absl::Status Import(const std::string& path) {
  static const MemoryFolder folder;  // removed at the end
  const std::string output = folder.path() + "/model";
  std::error_code ignored;
  std::filesystem::remove_all(output, ignored);
  QEFF_RETURN_IF_ERROR(ImportGguf(path, output).status());
  QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(output));
  QEFF_RETURN_IF_ERROR(Transformer::Load(std::move(checkpoint)).status());
  return Tokenizer::FromFolder(output).status();
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  // From memory first, as in safetensors_fuzz.cc.
  QEFF_RETURN_IF_ERROR(
      ParseGgufHeader(AsBytes(bytes), bytes.size(), "f").status());
  static MemoryFile* const kFile = new MemoryFile;
  kFile->Write(bytes);
  {
    QEFF_ASSIGN_OR_RETURN(const auto file, GgufFile::Open(kFile->path()));
    QEFF_RETURN_IF_ERROR(ReadRows(*file));
  }
  return Import(kFile->path());
}

}  // namespace qeff
