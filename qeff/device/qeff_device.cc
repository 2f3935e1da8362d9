// SPDX-License-Identifier: Apache-2.0
//
// The program that runs device packages; device_commands.h has its commands.

#include <cstdio>
#include <string>
#include <vector>

#include "qeff/device/device_commands.h"
#include "qeff/util/sigbus_guard.h"

int main(int argc, char** argv) {
  qeff::InstallSigbusGuard();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return qeff::RunDeviceCommand(arguments, stdout, stderr);
}
