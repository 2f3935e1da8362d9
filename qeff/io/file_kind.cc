// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/file_kind.h"

#include "absl/strings/match.h"

namespace qeff {
namespace {

struct Kind {
  absl::string_view pattern;
  absl::string_view description;
};

constexpr Kind kContents[] = {
    {absl::string_view("PK\x03\x04"),
     "a zip archive (a PyTorch checkpoint?); convert it to safetensors"},
    {absl::string_view("\x80\x02", 2),
     "a Python pickle, which can run code; convert it to safetensors"},
    {absl::string_view("\x80\x03", 2),
     "a Python pickle, which can run code; convert it to safetensors"},
    {absl::string_view("\x80\x04", 2),
     "a Python pickle, which can run code; convert it to safetensors"},
    {absl::string_view("\x80\x05", 2),
     "a Python pickle, which can run code; convert it to safetensors"},
    {absl::string_view("version https://git-lfs"),
     "a Git LFS pointer; fetch the file itself with git lfs pull"},
    {absl::string_view("GGUF"), "a GGUF file; convert it to safetensors"},
    {absl::string_view("\x89HDF"), "an HDF5 file; convert it to safetensors"},
    {absl::string_view("\x1f\x8b"), "a gzip archive; unpack it first"},
    {absl::string_view("{"), "JSON text"},
};

constexpr Kind kNames[] = {
    {".gguf", "a GGUF file"},
    {".ggml", "a GGML file"},
    {".bin", "a PyTorch pickle"},
    {".pt", "a PyTorch pickle"},
    {".pth", "a PyTorch pickle"},
    {".ckpt", "a PyTorch or TensorFlow checkpoint"},
    {".h5", "an HDF5 file"},
    {".msgpack", "a Flax checkpoint"},
    {".onnx", "an ONNX model"},
    {".onnx_data", "ONNX weights"},
    {".tflite", "a TensorFlow Lite model"},
    {".npz", "a NumPy archive"},
    {".ot", "a rust-bert checkpoint"},
    {".bin.index.json", "an index of PyTorch pickles"},
};

}  // namespace

absl::string_view ForeignKindOfContent(absl::Span<const uint8_t> content) {
  constexpr size_t kMaxLook = 512;
  const absl::string_view text(
      reinterpret_cast<const char*>(content.data()),
      content.size() < kMaxLook ? content.size() : kMaxLook);
  for (const Kind& kind : kContents) {
    if (absl::StartsWith(text, kind.pattern)) return kind.description;
  }
  if (absl::StartsWithIgnoreCase(text, "<!doctype html") ||
      absl::StartsWithIgnoreCase(text, "<html")) {
    return "an HTML page; the download failed";
  }
  return "";
}

absl::string_view ForeignKindOfName(absl::string_view file_name) {
  for (const Kind& kind : kNames) {
    if (absl::EndsWithIgnoreCase(file_name, kind.pattern)) {
      return kind.description;
    }
  }
  return "";
}

}  // namespace qeff
