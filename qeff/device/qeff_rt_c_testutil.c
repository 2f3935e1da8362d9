/* SPDX-License-Identifier: Apache-2.0 */

#include "qeff/device/qeff_rt_c_testutil.h"

qeff_rt_status ContinueInC(const char* path, const int32_t* prompt,
                           size_t prompt_count, int32_t* made, size_t count,
                           qeff_rt_error* error) {
  qeff_rt_package* package = NULL;
  qeff_rt_engine* engine = NULL;
  qeff_rt_sampler* sampler = NULL;
  const int32_t* tokens = prompt;
  size_t num_tokens = prompt_count;
  const float* logits;
  size_t i;
  qeff_rt_status status =
      qeff_rt_package_open(QEFF_RT_ABI_VERSION, path, &package, error);
  if (status == QEFF_RT_OK) {
    status = qeff_rt_engine_create(package, NULL, &engine, error);
  }
  if (status == QEFF_RT_OK) {
    status = qeff_rt_sampler_create(package, NULL, &sampler, error);
  }
  for (i = 0; i < count && status == QEFF_RT_OK; ++i) {
    status =
        qeff_rt_engine_append(engine, 0, tokens, num_tokens, &logits, error);
    if (status != QEFF_RT_OK) break;
    status = qeff_rt_sampler_next(sampler, logits, &made[i], error);
    tokens = &made[i];
    num_tokens = 1;
  }
  qeff_rt_sampler_free(sampler);
  qeff_rt_engine_free(engine);
  qeff_rt_package_free(package);
  return status;
}
