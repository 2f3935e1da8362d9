# SPDX-License-Identifier: Apache-2.0
"""Weights of a quantized folder, as PyTorch computes them from the tensors.

Usage: /usr/bin/python3 decode_folder.py FOLDER...

Writes FOLDER/MODULE.f32, [out, in] in float32, for each quantized layer. The
arithmetic is that of the formats' own runtimes (shifts of whole words, zero
points of v1 stored less one, signed codes of compressed-tensors) and shares no
code with qeff. Exits with 77 when PyTorch is not installed.
"""

import json
import os
import struct
import sys

try:
    import torch
except ImportError:
    sys.exit(77)

DTYPES = {"I64": torch.int64, "I8": torch.int8, "U8": torch.uint8,
          # Bytes: this PyTorch may not know the type.
          "F8_E4M3": torch.uint8, "I32": torch.int32, "F16": torch.float16, "F32": torch.float32,
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


def float8(codes):
    """E4M3 without infinities."""
    codes = codes.to(torch.int32)
    sign = torch.where(codes >= 128, -1.0, 1.0)
    exponent, mantissa = (codes >> 3) & 15, (codes & 7).float()
    normal = (1 + mantissa / 8) * torch.pow(2.0, exponent.float() - 7)
    return sign * torch.where(exponent == 0, mantissa / 8 * 2.0 ** -6, normal)


def by_group(values, columns, order):
    """[out, groups] as [out, columns]."""
    if order is not None:
        return values[:, order.long()]
    return values.repeat_interleave(columns // values.shape[1], 1)


def compressed_tensors(tensors, module, config):
    if module + ".bitmask" in tensors:
        rows, columns = tensors[module + ".shape"].tolist()
        bits = tensors[module + ".bitmask"].unsqueeze(-1) >> torch.arange(8)
        mask = (bits & 1).flatten(-2)[:, :columns].bool()
        weight = torch.zeros(rows, columns)
        weight[mask] = tensors[module + ".compressed"].float().flatten()
        return weight
    scales = tensors[module + ".weight_scale"]
    order = tensors.get(module + ".weight_g_idx")
    packed = tensors.get(module + ".weight_packed")
    if packed is not None and packed.dtype == torch.uint8:  # mxfp4
        codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
        values = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6])
        weight = torch.cat([values, -values])[codes.long()]
        scales = torch.pow(2.0, scales.float() - 127)
        return weight * by_group(scales, weight.shape[1], order)
    if packed is None:
        codes = tensors[module + ".weight"]
        weight = codes.float() if codes.dtype == torch.int8 else float8(codes)
        return weight * by_group(scales.float(), weight.shape[1], order)
    rows, columns = tensors[module + ".weight_shape"].tolist()
    bits = next(group["weights"]["num_bits"]
                for group in config["config_groups"].values())
    half = 1 << (bits - 1)
    codes = unpack(packed, bits, 1)[:, :columns] - half
    zeros = tensors.get(module + ".weight_zero_point")
    if zeros is not None:
        zeros = unpack(zeros, bits, 0)[:rows] - half
        codes = codes - by_group(zeros, columns, order)
    return codes.float() * by_group(scales.float(), columns, order)


def modules(tensors):
    for name in tensors:
        module, _, kind = name.rpartition(".")
        if kind in ("qweight", "weight_scale", "compressed"):
            yield module


def decode_folder(folder):
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)["quantization_config"]
    tensors = load(os.path.join(folder, "model.safetensors"))
    decode = {"gptq": gptq, "awq": awq,
              "compressed-tensors": compressed_tensors}[config["quant_method"]]
    for module in modules(tensors):
        weight = decode(tensors, module, config)
        if decode is not compressed_tensors:  # inputs first
            weight = weight.T
        weight = weight.contiguous()
        with open(os.path.join(folder, module + ".f32"), "wb") as f:
            f.write(weight.numpy().tobytes())


for argument in sys.argv[1:]:
    decode_folder(argument)
