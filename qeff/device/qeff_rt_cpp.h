// SPDX-License-Identifier: Apache-2.0
//
// Handles of qeff_rt.h that free themselves, for C++11 and later. The functions
// are those of qeff_rt.h; these take and give handles that own.
//
//   qeff_rt_error error;
//   qeff_rt_cpp::Package package;
//   if (qeff_rt_cpp::Open("model.qeff", &package, &error) != QEFF_RT_OK) ...

#ifndef QEFF_DEVICE_QEFF_RT_CPP_H_
#define QEFF_DEVICE_QEFF_RT_CPP_H_

#include <memory>
#include <string>

#include "qeff/device/qeff_rt.h"

namespace qeff_rt_cpp {

struct Free {
  void operator()(qeff_rt_package* p) const { qeff_rt_package_free(p); }
  void operator()(qeff_rt_decoder* p) const { qeff_rt_decoder_free(p); }
  void operator()(qeff_rt_engine* p) const { qeff_rt_engine_free(p); }
  void operator()(qeff_rt_sampler* p) const { qeff_rt_sampler_free(p); }
};

using Package = std::unique_ptr<qeff_rt_package, Free>;
using Decoder = std::unique_ptr<qeff_rt_decoder, Free>;
using Engine = std::unique_ptr<qeff_rt_engine, Free>;
using Sampler = std::unique_ptr<qeff_rt_sampler, Free>;

// As qeff_rt_package_open, with the version of the header that was included.
inline qeff_rt_status Open(const std::string& path, Package* package,
                           qeff_rt_error* error) {
  qeff_rt_package* handle = nullptr;
  const qeff_rt_status status =
      qeff_rt_package_open(QEFF_RT_ABI_VERSION, path.c_str(), &handle, error);
  if (status == QEFF_RT_OK) package->reset(handle);
  return status;
}

// As qeff_rt_decoder_create.
inline qeff_rt_status Create(const Package& package, Decoder* decoder,
                             qeff_rt_error* error) {
  qeff_rt_decoder* handle = nullptr;
  const qeff_rt_status status =
      qeff_rt_decoder_create(package.get(), &handle, error);
  if (status == QEFF_RT_OK) decoder->reset(handle);
  return status;
}

// As qeff_rt_engine_create.
inline qeff_rt_status Create(const Package& package,
                             const qeff_rt_engine_options& options,
                             Engine* engine, qeff_rt_error* error) {
  qeff_rt_engine* handle = nullptr;
  const qeff_rt_status status =
      qeff_rt_engine_create(package.get(), &options, &handle, error);
  if (status == QEFF_RT_OK) engine->reset(handle);
  return status;
}

// As qeff_rt_sampler_create.
inline qeff_rt_status Create(const Package& package,
                             const qeff_rt_sampler_options& options,
                             Sampler* sampler, qeff_rt_error* error) {
  qeff_rt_sampler* handle = nullptr;
  const qeff_rt_status status =
      qeff_rt_sampler_create(package.get(), &options, &handle, error);
  if (status == QEFF_RT_OK) sampler->reset(handle);
  return status;
}

}  // namespace qeff_rt_cpp

#endif  // QEFF_DEVICE_QEFF_RT_CPP_H_
