// SPDX-License-Identifier: Apache-2.0
//
// The commands of the `qeff_device` binary.

#ifndef QEFF_DEVICE_DEVICE_COMMANDS_H_
#define QEFF_DEVICE_DEVICE_COMMANDS_H_

#include <cstdio>
#include <string>

#include "absl/types/span.h"

namespace qeff {

// Runs `qeff_device ARGUMENTS...` (without the program's name) and returns the
// exit code of the process (util/status.h):
//   run F    continues --prompt or --tokens and prints the text or the ids;
//            several --prompt run side by side, texts are printed in order
//   bench F  prefill and decode speed on tokens that mean nothing
//   info F   what the header says; takes packages for other machines too
//   verify F checks every byte against the checksums
// Messages go to `out` and `err`.
int RunDeviceCommand(absl::Span<const std::string> arguments, FILE* out,
                     FILE* err);

}  // namespace qeff

#endif  // QEFF_DEVICE_DEVICE_COMMANDS_H_
