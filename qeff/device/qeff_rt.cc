// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/qeff_rt.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "qeff/util/status.h"

struct qeff_rt_package {
  qeff::DevicePackage package;
  std::shared_ptr<const qeff::PortableTokenizer> tokenizer;  // or null
};

struct qeff_rt_decoder {
  explicit qeff_rt_decoder(
      std::shared_ptr<const qeff::PortableTokenizer> shared)
      : tokenizer(std::move(shared)),
        stream(tokenizer.get(), /*skip_special_tokens=*/true) {}

  std::shared_ptr<const qeff::PortableTokenizer> tokenizer;
  qeff::StreamDecoder stream;
  std::string text;  // what the last call gave
};

struct qeff_rt_engine {
  std::unique_ptr<qeff::ThreadPool> pool;
  std::unique_ptr<qeff::Engine> engine;
  std::vector<qeff::SlotTokens> inputs;  // of the last run
};

struct qeff_rt_sampler {
  qeff::Sampler sampler;  // over as many logits as there are tokens, or fewer
};

namespace qeff {
namespace {

qeff_rt_status Code(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return QEFF_RT_OK;
    case absl::StatusCode::kInvalidArgument:
      return QEFF_RT_INVALID_ARGUMENT;
    case absl::StatusCode::kNotFound:
      return QEFF_RT_NOT_FOUND;
    case absl::StatusCode::kOutOfRange:
      return QEFF_RT_OUT_OF_RANGE;
    case absl::StatusCode::kResourceExhausted:
      return QEFF_RT_RESOURCE_EXHAUSTED;
    case absl::StatusCode::kUnavailable:
      return QEFF_RT_UNAVAILABLE;
    case absl::StatusCode::kDataLoss:
      return QEFF_RT_DATA_LOSS;
    default:
      return QEFF_RT_OTHER;
  }
}

qeff_rt_status Report(absl::StatusCode code, absl::string_view message,
                      qeff_rt_error* error) {
  if (error != nullptr) {
    const size_t bytes = std::min(message.size(), sizeof(error->message) - 1);
    std::memcpy(error->message, message.data(), bytes);
    error->message[bytes] = '\0';
  }
  return Code(code);
}

// Runs `body`, which returns a Status, and lets nothing out.
template <class Body>
qeff_rt_status Guarded(qeff_rt_error* error, const Body& body) {
  try {
    const absl::Status status = body();
    if (status.ok()) return QEFF_RT_OK;
    return Report(status.code(), status.message(), error);
  } catch (const std::bad_alloc&) {
    return Report(absl::StatusCode::kResourceExhausted, "out of memory", error);
  } catch (...) {
    return Report(absl::StatusCode::kInternal, "unexpected error", error);
  }
}

absl::Status CheckTokenizer(const qeff_rt_package& package) {
  if (package.tokenizer != nullptr) return absl::OkStatus();
  return absl::NotFoundError("the package has no tokenizer");
}

// Copies a result to the caller's buffer, if it fits.
template <class Items, class T>
absl::Status Give(const Items& items, T* buffer, size_t capacity,
                  size_t* count) {
  *count = items.size();
  if (items.size() > capacity) {
    return absl::OutOfRangeError(absl::StrCat(
        "buffer: expected room for ", items.size(), ", found ", capacity));
  }
  std::copy(items.begin(), items.end(), buffer);
  return absl::OkStatus();
}

absl::Status CheckSlot(const Engine& engine, int64_t slot) {
  const int64_t slots = engine.options().batch_size;
  if (slot >= 0 && slot < slots) return absl::OkStatus();
  return InvalidInputError("slot: expected 0 to ", slots - 1, ", found ", slot);
}

}  // namespace
}  // namespace qeff

uint32_t qeff_rt_abi_version(void) { return QEFF_RT_ABI_VERSION; }

qeff_rt_status qeff_rt_package_open(uint32_t abi_version, const char* path,
                                    qeff_rt_package** package,
                                    qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    if (abi_version != QEFF_RT_ABI_VERSION) {
      return qeff::InvalidInputError(
          "version of the interface: the library "
          "has ",
          QEFF_RT_ABI_VERSION,
          ", the program was "
          "built for ",
          abi_version);
    }
    QEFF_ASSIGN_OR_RETURN(qeff::DevicePackage opened,
                          qeff::DevicePackage::Open(path));
    std::unique_ptr<qeff::PortableTokenizer> tokenizer;
    if (opened.header().tokenizer.has_value()) {
      QEFF_ASSIGN_OR_RETURN(qeff::TokenizerTables tables,
                            opened.ReadTokenizer());
      QEFF_ASSIGN_OR_RETURN(tokenizer,
                            qeff::PortableTokenizer::Create(std::move(tables)));
    }
    *package = new qeff_rt_package{std::move(opened), std::move(tokenizer)};
    return absl::OkStatus();
  });
}

void qeff_rt_package_free(qeff_rt_package* package) { delete package; }

int64_t qeff_rt_package_vocab_size(const qeff_rt_package* package) {
  return package->package.header().spec.vocab_size;
}

int qeff_rt_package_is_end(const qeff_rt_package* package, int32_t token) {
  const auto& ends = package->package.header().spec.eos_token_ids;
  return std::find(ends.begin(), ends.end(), token) != ends.end() ? 1 : 0;
}

int qeff_rt_package_has_tokenizer(const qeff_rt_package* package) {
  return package->tokenizer != nullptr ? 1 : 0;
}

qeff_rt_status qeff_rt_package_encode(const qeff_rt_package* package,
                                      const char* text, size_t text_bytes,
                                      int add_special, int32_t* tokens,
                                      size_t capacity, size_t* count,
                                      qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    QEFF_RETURN_IF_ERROR(qeff::CheckTokenizer(*package));
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<int32_t> ids,
        package->tokenizer->Encode(absl::string_view(text, text_bytes),
                                   add_special != 0));
    return qeff::Give(ids, tokens, capacity, count);
  });
}

qeff_rt_status qeff_rt_package_decode(const qeff_rt_package* package,
                                      const int32_t* tokens, size_t count,
                                      char* text, size_t capacity,
                                      size_t* text_bytes,
                                      qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    QEFF_RETURN_IF_ERROR(qeff::CheckTokenizer(*package));
    QEFF_ASSIGN_OR_RETURN(
        const std::string decoded,
        package->tokenizer->Decode(absl::MakeConstSpan(tokens, count),
                                   /*skip_special_tokens=*/true));
    return qeff::Give(decoded, text, capacity, text_bytes);
  });
}

qeff_rt_status qeff_rt_decoder_create(const qeff_rt_package* package,
                                      qeff_rt_decoder** decoder,
                                      qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    QEFF_RETURN_IF_ERROR(qeff::CheckTokenizer(*package));
    *decoder = new qeff_rt_decoder(package->tokenizer);
    return absl::OkStatus();
  });
}

void qeff_rt_decoder_free(qeff_rt_decoder* decoder) { delete decoder; }

qeff_rt_status qeff_rt_decoder_append(qeff_rt_decoder* decoder, int32_t token,
                                      const char** text, size_t* text_bytes,
                                      qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(decoder->text, decoder->stream.Append(token));
    *text = decoder->text.data();
    *text_bytes = decoder->text.size();
    return absl::OkStatus();
  });
}

qeff_rt_status qeff_rt_decoder_flush(qeff_rt_decoder* decoder,
                                     const char** text, size_t* text_bytes,
                                     qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    decoder->text = decoder->stream.Flush();
    *text = decoder->text.data();
    *text_bytes = decoder->text.size();
    return absl::OkStatus();
  });
}

qeff_rt_status qeff_rt_engine_create(const qeff_rt_package* package,
                                     const qeff_rt_engine_options* options,
                                     qeff_rt_engine** engine,
                                     qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    qeff::EngineOptions run = package->package.header().options;
    int threads = qeff::NumAvailableProcessors();
    if (options != nullptr) {
      if (options->context_length != 0) {
        run.context_length = options->context_length;
      }
      if (options->batch_size != 0) run.batch_size = options->batch_size;
      if (options->prefill_chunk != 0) {
        run.prefill_chunk = options->prefill_chunk;
      }
      if (options->threads != 0) threads = options->threads;
    }
    auto created = std::make_unique<qeff_rt_engine>();
    QEFF_ASSIGN_OR_RETURN(created->pool, qeff::CreateThreadPool(threads));
    QEFF_ASSIGN_OR_RETURN(created->engine,
                          qeff::Engine::Create(package->package.model(),
                                               created->pool.get(), run));
    *engine = created.release();
    return absl::OkStatus();
  });
}

void qeff_rt_engine_free(qeff_rt_engine* engine) { delete engine; }

void qeff_rt_engine_get_options(const qeff_rt_engine* engine,
                                qeff_rt_engine_options* options) {
  const qeff::EngineOptions& run = engine->engine->options();
  options->context_length = run.context_length;
  options->batch_size = run.batch_size;
  options->prefill_chunk = run.prefill_chunk;
  options->threads = engine->pool->num_threads();
}

qeff_rt_status qeff_rt_engine_append(qeff_rt_engine* engine, int64_t slot,
                                     const int32_t* tokens, size_t count,
                                     const float** logits,
                                     qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    const qeff::SlotTokens input = {slot, absl::MakeConstSpan(tokens, count)};
    QEFF_ASSIGN_OR_RETURN(const qeff::MatrixView<const float> found,
                          engine->engine->Run({&input, 1}));
    *logits = found.row(0);
    return absl::OkStatus();
  });
}

qeff_rt_status qeff_rt_engine_run(qeff_rt_engine* engine,
                                  const qeff_rt_slot_tokens* inputs,
                                  size_t count, const float** logits,
                                  qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    engine->inputs.clear();
    for (const qeff_rt_slot_tokens& input :
         absl::MakeConstSpan(inputs, count)) {
      engine->inputs.push_back({input.slot,
                                absl::MakeConstSpan(input.tokens, input.count),
                                input.skip_logits == 0});
    }
    QEFF_ASSIGN_OR_RETURN(const qeff::MatrixView<const float> found,
                          engine->engine->Run(engine->inputs));
    *logits = found.data();
    return absl::OkStatus();
  });
}

int64_t qeff_rt_engine_position(const qeff_rt_engine* engine, int64_t slot) {
  if (!qeff::CheckSlot(*engine->engine, slot).ok()) return -1;
  return engine->engine->position(slot);
}

qeff_rt_status qeff_rt_engine_reset(qeff_rt_engine* engine, int64_t slot,
                                    qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    QEFF_RETURN_IF_ERROR(qeff::CheckSlot(*engine->engine, slot));
    engine->engine->Reset(slot);
    return absl::OkStatus();
  });
}

qeff_rt_status qeff_rt_sampler_create(const qeff_rt_package* package,
                                      const qeff_rt_sampler_options* options,
                                      qeff_rt_sampler** sampler,
                                      qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    qeff::SamplerOptions sampling;
    if (options != nullptr) {
      sampling.temperature = options->temperature;
      sampling.top_k = options->top_k;
      sampling.top_p = options->top_p;
      sampling.min_p = options->min_p;
      sampling.repetition_penalty = options->repetition_penalty;
      sampling.seed = options->seed;
    }
    const int64_t vocab_size = qeff_rt_package_vocab_size(package);
    int64_t choices = vocab_size;
    if (package->tokenizer != nullptr) {
      choices = std::min<int64_t>(choices, package->tokenizer->vocab_size());
    }
    QEFF_ASSIGN_OR_RETURN(qeff::Sampler created,
                          qeff::Sampler::Create(sampling, choices));
    *sampler = new qeff_rt_sampler{std::move(created)};
    return absl::OkStatus();
  });
}

void qeff_rt_sampler_free(qeff_rt_sampler* sampler) { delete sampler; }

void qeff_rt_sampler_accept(qeff_rt_sampler* sampler, const int32_t* tokens,
                            size_t count) {
  sampler->sampler.Accept(absl::MakeConstSpan(tokens, count));
}

qeff_rt_status qeff_rt_sampler_next(qeff_rt_sampler* sampler,
                                    const float* logits, int32_t* token,
                                    qeff_rt_error* error) {
  return qeff::Guarded(error, [&]() -> absl::Status {
    const size_t choices = static_cast<size_t>(sampler->sampler.vocab_size());
    QEFF_ASSIGN_OR_RETURN(
        const int32_t chosen,
        sampler->sampler.Sample(absl::MakeConstSpan(logits, choices)));
    sampler->sampler.Accept({chosen});
    *token = chosen;
    return absl::OkStatus();
  });
}
