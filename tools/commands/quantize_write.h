// SPDX-License-Identifier: Apache-2.0
//
// The part of `qeff quantize` that needs no text.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_WRITE_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_WRITE_H_

#include <string>

#include "absl/status/status.h"
#include "qeff/io/checkpoint.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_plan.h"

namespace qeff {

// QuantizeCheckpoint with its progress on the terminal. Errors: its own; when a
// signal has come, those of InterruptScope::Check.
absl::Status WriteQuantized(const Checkpoint& checkpoint,
                            const QuantizePlan& plan, const std::string& output,
                            ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_WRITE_H_
