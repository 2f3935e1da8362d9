// SPDX-License-Identifier: Apache-2.0
//
// Writing one safetensors file of tensors that are in memory. For model
// folders, and tensors larger than memory, see checkpoint_writer.h.

#ifndef QEFF_IO_SAFETENSORS_WRITER_H_
#define QEFF_IO_SAFETENSORS_WRITER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct NamedTensor {
  std::string name;
  TensorView tensor;
};

// Writes `tensors` to `path` atomically, replacing what is there. Errors:
// kInvalidArgument for a name that is empty, reserved or given twice, and for a
// tensor whose bytes are not as many as its shape needs; those of AtomicFile.
absl::Status WriteSafetensorsFile(const std::string& path,
                                  const std::vector<NamedTensor>& tensors);

}  // namespace qeff

#endif  // QEFF_IO_SAFETENSORS_WRITER_H_
