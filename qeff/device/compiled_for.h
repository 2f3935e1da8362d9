// SPDX-License-Identifier: Apache-2.0
//
// Which processors a program is compiled for, as the compiler's macros tell.

#ifndef QEFF_DEVICE_COMPILED_FOR_H_
#define QEFF_DEVICE_COMPILED_FOR_H_

namespace qeff {

struct CompiledFor {
  int x86_64_level;  // 1 to 4, of the x86-64 psABI; 0 on other processors
  bool avx512_vnni;
  bool arm_dot_product;  // SDOT of Armv8.2
};

// Constant data: reading it runs no code of this program.
extern const CompiledFor kCompiledFor;

}  // namespace qeff

#endif  // QEFF_DEVICE_COMPILED_FOR_H_
