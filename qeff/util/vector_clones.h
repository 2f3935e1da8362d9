// SPDX-License-Identifier: Apache-2.0
//
// Plain loops for wide vectors, where a kernel of its own (qeff/kernels) would
// be too much.

#ifndef QEFF_UTIL_VECTOR_CLONES_H_
#define QEFF_UTIL_VECTOR_CLONES_H_

// Compiles a function for wider vectors as well, chosen when the program
// starts. All give the same bits: products and sums are rounded separately
// (-ffp-contract=off), and the order of sums is the source's. Not with
// ThreadSanitizer: the choice runs before that is ready.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define QEFF_VECTOR_CLONES \
  __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QEFF_VECTOR_CLONES
#endif

#endif  // QEFF_UTIL_VECTOR_CLONES_H_
