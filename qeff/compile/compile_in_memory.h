// SPDX-License-Identifier: Apache-2.0
//
// From a checkpoint to the model that the device engine runs, in this process
// and without a file.
//
//   QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder));
//   QEFF_ASSIGN_OR_RETURN(auto transformer, Transformer::Load(checkpoint));
//   QEFF_ASSIGN_OR_RETURN(auto model, CompileInMemory(*transformer));
//   QEFF_ASSIGN_OR_RETURN(auto engine, Engine::Create(model, pool, {1024}));

#ifndef QEFF_COMPILE_COMPILE_IN_MEMORY_H_
#define QEFF_COMPILE_COMPILE_IN_MEMORY_H_

#include <memory>

#include "absl/status/statusor.h"
#include "qeff/device/model.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Returns the weights of `transformer` in the layout of the engine. A matrix
// that the checkpoint holds as float32, bf16 or f16 with one row an output is
// used where it is mapped (the result keeps the checkpoint open); any other
// (GPT-2's transposed ones, quantized ones, float64) is copied as float32.
// Values are neither rounded nor looked at. Biases and norms are copied.
// Errors: kResourceExhausted when memory is out, and those of reading a
// quantized tensor.
// Cost: the copies; none for the mapped ones, which the first token reads.
absl::StatusOr<std::shared_ptr<const DeviceModel>> CompileInMemory(
    const Transformer& transformer);

}  // namespace qeff

#endif  // QEFF_COMPILE_COMPILE_IN_MEMORY_H_
