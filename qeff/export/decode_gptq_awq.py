# SPDX-License-Identifier: Apache-2.0
"""Weights of a GPTQ or AWQ folder, as PyTorch computes them from the tensors.

Usage: /usr/bin/python3 decode_gptq_awq.py FOLDER...

Writes FOLDER/MODULE.f32, [out, in] in float32, for each quantized layer. The
arithmetic is that of the formats' own runtimes (shifts of whole words, zero
points of v1 stored less one) and shares no code with qeff. Exits with 77 when
PyTorch is not installed.
"""

import json
import os
import struct
import sys

try:
    import torch
except ImportError:
    sys.exit(77)

DTYPES = {"I32": torch.int32, "F16": torch.float16, "F32": torch.float32,
          "BF16": torch.bfloat16}


def load(path):
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        if info["dtype"] in DTYPES and end > begin:
            tensors[name] = torch.frombuffer(
                bytearray(data[8 + size + begin:8 + size + end]),
                dtype=DTYPES[info["dtype"]]).reshape(info["shape"])
    return tensors


def unpack(words, bits, dim):
    """The codes that are packed along `dim`, least significant first."""
    words = words.movedim(dim, -1).to(torch.int64) & 0xFFFFFFFF
    if 32 % bits == 0:
        shifts = torch.arange(0, 32, bits)
        codes = (words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    else:  # across words: bit by bit
        stream = ((words.unsqueeze(-1) >> torch.arange(32)) & 1).flatten(-2)
        stream = stream.reshape(*stream.shape[:-1], -1, bits)
        codes = (stream << torch.arange(bits)).sum(-1, keepdim=True)
    return codes.flatten(-2).movedim(-1, dim)


def gptq(tensors, module, config):
    bits = config["bits"]
    codes = unpack(tensors[module + ".qweight"], bits, 0)
    zeros = unpack(tensors[module + ".qzeros"], bits, 1)
    if config["checkpoint_format"] == "gptq":
        zeros = (zeros + 1) & ((1 << bits) - 1)
    scales = tensors[module + ".scales"].float()
    group = tensors[module + ".g_idx"].long()
    return (codes - zeros[group]).float() * scales[group]


def awq(tensors, module, config):
    def in_order(words):
        codes = (words.to(torch.int64).unsqueeze(-1) >>
                 torch.arange(0, 32, 4)) & 15
        return codes[..., [0, 4, 1, 5, 2, 6, 3, 7]].flatten(-2)

    codes = in_order(tensors[module + ".qweight"])
    size = config["group_size"] if config["group_size"] > 0 else len(codes)
    zeros = in_order(tensors[module + ".qzeros"]).repeat_interleave(size, 0)
    scales = tensors[module + ".scales"].float().repeat_interleave(size, 0)
    return (codes - zeros).float() * scales


def decode_folder(folder):
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)["quantization_config"]
    tensors = load(os.path.join(folder, "model.safetensors"))
    decode = {"gptq": gptq, "awq": awq}[config["quant_method"]]
    for name in tensors:
        if not name.endswith(".qweight"):
            continue
        module = name[:-len(".qweight")]
        weight = decode(tensors, module, config).T.contiguous()
        with open(os.path.join(folder, module + ".f32"), "wb") as f:
            f.write(weight.numpy().tobytes())


for argument in sys.argv[1:]:
    decode_folder(argument)
