/* SPDX-License-Identifier: Apache-2.0
 *
 * A program in C that uses qeff_rt.h, for the test. */

#ifndef QEFF_DEVICE_QEFF_RT_C_TESTUTIL_H_
#define QEFF_DEVICE_QEFF_RT_C_TESTUTIL_H_

#include "qeff/device/qeff_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Appends `prompt` to a new engine for the package at `path` and then `count`
 * greedy tokens one by one, which it stores in `made`. */
qeff_rt_status ContinueInC(const char* path, const int32_t* prompt,
                           size_t prompt_count, int32_t* made, size_t count,
                           qeff_rt_error* error);

#ifdef __cplusplus
}
#endif

#endif /* QEFF_DEVICE_QEFF_RT_C_TESTUTIL_H_ */
