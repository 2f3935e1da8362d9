// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/safetensors_writer.h"

#include <cstdint>
#include <limits>
#include <memory>

#include "qeff/io/messages.h"
#include "qeff/io/shard_layout.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status WriteSafetensorsFile(const std::string& path,
                                  const std::vector<NamedTensor>& tensors) {
  std::vector<TensorInfo> infos;
  for (const NamedTensor& named : tensors) {
    infos.push_back({named.name, named.tensor.dtype, named.tensor.shape});
  }
  QEFF_ASSIGN_OR_RETURN(const ShardLayout layout,
                        PlanShards(infos, std::numeric_limits<uint64_t>::max()),
                        path);
  // The layout exists, so that no size overflows.
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].tensor.bytes.size() == infos[i].size_bytes()) continue;
    return InvalidInputError(path, ": tensor ", QuoteName(infos[i].name),
                             ": expected ", infos[i].size_bytes(),
                             " bytes for shape ", infos[i].shape.ToString(),
                             " of ", DTypeName(infos[i].dtype), ", found ",
                             tensors[i].tensor.bytes.size());
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<AtomicFile> file,
                        AtomicFile::Create(path));
  QEFF_RETURN_IF_ERROR(file->Write(0, AsBytes(layout.shards[0].header)));
  for (size_t i = 0; i < tensors.size(); ++i) {
    QEFF_RETURN_IF_ERROR(
        file->Write(layout.places[i].begin_bytes, tensors[i].tensor.bytes));
  }
  return file->Commit();
}

}  // namespace qeff
