# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints of every model family and variant with their logits.

Usage: /usr/bin/python3 make_references.py FOLDER

Writes FOLDER/VARIANT/{config.json, model.safetensors, tokens.json, logits.f32}
for each variant. The models are written in PyTorch from the definitions of
their families, in float32, and share no code with qeff. Exits with 77 when
PyTorch is not installed.
"""

import json
import math
import os
import struct
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(77)

VOCAB = 96
TOKENS = 40


def llama(family="llama", **changes):
    config = dict(
        model_type=family, hidden_size=48, intermediate_size=80,
        num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        vocab_size=VOCAB, max_position_embeddings=256, rms_norm_eps=1e-5,
        rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False)
    config.update(changes)
    return config


def gpt2(**changes):
    config = dict(model_type="gpt2", n_embd=48, n_layer=2, n_head=6,
                  n_positions=64, vocab_size=VOCAB)
    config.update(changes)
    return config


def mpt(attention=None, **changes):
    config = dict(model_type="mpt", d_model=48, n_layers=2, n_heads=6,
                  expansion_ratio=4, max_seq_len=64, vocab_size=VOCAB,
                  no_bias=True, attn_config=dict(alibi=True,
                                                 **(attention or {})))
    config.update(changes)
    return config


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=64)

# Name -> config; a name that ends with _no_prefix has plain tensor names.
VARIANTS = {
    "llama": llama(),
    "llama_no_prefix": llama(),
    "llama_tied": llama(tie_word_embeddings=True),
    "llama_multi_head": llama(num_key_value_heads=6),
    "llama_attention_bias": llama(attention_bias=True),
    "llama_mlp_bias": llama(mlp_bias=True),
    "llama_head_dim": llama(head_dim=20),
    "llama_rope_linear": llama(rope_scaling=dict(type="linear", factor=4.0)),
    "llama_rope_llama3": llama(rope_scaling=LLAMA3, head_dim=16),
    "llama_rope_parameters": llama(
        rope_parameters=dict(LLAMA3, rope_theta=50000.0), rope_theta=None),
    "llama_gelu": llama(hidden_act="gelu"),
    "llama_gelu_tanh": llama(hidden_act="gelu_pytorch_tanh"),
    "mistral": llama("mistral", sliding_window=None),
    "mistral_window": llama("mistral", sliding_window=9),
    "qwen2": llama("qwen2"),
    "qwen2_window_tied": llama(
        "qwen2", use_sliding_window=True, sliding_window=11,
        max_window_layers=0, tie_word_embeddings=True),
    "qwen3": llama("qwen3", head_dim=24),
    "qwen3_bias": llama("qwen3", head_dim=8, attention_bias=True),
    "gpt2": gpt2(),
    "gpt2_no_prefix": gpt2(),
    "gpt2_untied": gpt2(tie_word_embeddings=False),
    "gpt2_inner_relu": gpt2(n_inner=60, activation_function="relu"),
    "gpt2_gelu": gpt2(activation_function="gelu"),
    "gpt2_unscaled": gpt2(scale_attn_weights=False),
    "mpt_6_heads": mpt(),
    "mpt_8_heads": mpt(n_heads=8),
    "mpt_12_heads_no_prefix": mpt(n_heads=12),
    "mpt_clip": mpt(dict(clip_qkv=0.4)),
    "mpt_softmax_scale": mpt(dict(softmax_scale=0.8, alibi_bias_max=16)),
    "mpt_untied": mpt(expansion_ratio=2, tie_word_embeddings=False),
}


class Weights:
    """Creates a tensor when it is first asked for."""

    def __init__(self, seed, prefix):
        self.tensors = {}
        self.prefix = prefix
        self.generator = torch.Generator().manual_seed(seed)

    def get(self, name, shape, mean=0.0, deviation=0.25, prefixed=True):
        name = self.prefix + name if prefixed else name
        if name not in self.tensors:
            noise = torch.randn(shape, generator=self.generator)
            self.tensors[name] = mean + deviation * noise
        assert list(self.tensors[name].shape) == list(shape), name
        return self.tensors[name]

    def linear(self, name, x, out, bias):
        weight = self.get(name + ".weight", [out, x.shape[-1]])
        return F.linear(x, weight,
                        self.get(name + ".bias", [out]) if bias else None)

    def conv1d(self, name, x, out):
        weight = self.get(name + ".weight", [x.shape[-1], out])
        return x @ weight + self.get(name + ".bias", [out])

    def layer_norm(self, name, x, eps, bias):
        size = [x.shape[-1]]
        return F.layer_norm(
            x, size, self.get(name + ".weight", size, 1.0),
            self.get(name + ".bias", size) if bias else None, eps)

    def rms_norm(self, name, x, eps):
        weight = self.get(name + ".weight", [x.shape[-1]], 1.0)
        return weight * (x * torch.rsqrt(x.pow(2).mean(-1, True) + eps))

    def lm_head(self, embedding, x, tied):
        hidden = x.shape[-1]
        if tied:
            return F.linear(x, self.get(embedding, [VOCAB, hidden]))
        return F.linear(x, self.get("lm_head.weight", [VOCAB, hidden],
                                    prefixed=False))


ACTIVATIONS = {
    "silu": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def split_heads(x, heads):
    return x.view(x.shape[0], heads, -1).transpose(0, 1)


def attend(q, k, v, scale, window=None, bias=None):
    """q, k, v: [heads, tokens, head_dim] -> [tokens, heads * head_dim]."""
    tokens = q.shape[1]
    scores = q @ k.transpose(1, 2) * scale
    if bias is not None:
        scores = scores + bias
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    if window is not None:
        hidden |= torch.ones(tokens, tokens, dtype=torch.bool).tril(-window)
    scores = scores.masked_fill(hidden, -math.inf)
    out = F.softmax(scores, dim=-1) @ v
    return out.transpose(0, 1).reshape(tokens, -1)


def inverse_frequencies(config, head_dim):
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.get("rope_theta") or rope.get("rope_theta")
    inverse = theta ** (-torch.arange(0, head_dim, 2).double() / head_dim)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "linear":
        return inverse / rope["factor"]
    if kind == "llama3":
        original = rope["original_max_position_embeddings"]
        waves = 2 * math.pi / inverse
        smooth = ((original / waves - rope["low_freq_factor"]) /
                  (rope["high_freq_factor"] - rope["low_freq_factor"]))
        smooth = smooth.clamp(0, 1)
        return (1 - smooth) * inverse / rope["factor"] + smooth * inverse
    return inverse


def rotate(x, inverse):
    """x: [heads, tokens, head_dim], position = index of the token."""
    angles = torch.outer(torch.arange(x.shape[1]).double(), inverse)
    cos, sin = angles.cos().float(), angles.sin().float()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def llama_logits(c, w, tokens):
    family, hidden = c["model_type"], c["hidden_size"]
    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    d = c.get("head_dim") or hidden // heads
    attention_bias = c.get("attention_bias", False)
    qkv_bias = attention_bias or family == "qwen2"
    window = c.get("sliding_window")
    if family != "mistral" and not c.get("use_sliding_window"):
        window = None
    eps, act = c["rms_norm_eps"], ACTIVATIONS[c["hidden_act"]]
    inverse = inverse_frequencies(c, d)
    x = w.get("embed_tokens.weight", [VOCAB, hidden])[tokens]
    for layer in range(c["num_hidden_layers"]):
        p = f"layers.{layer}."
        n = w.rms_norm(p + "input_layernorm", x, eps)
        a = p + "self_attn."
        q = split_heads(w.linear(a + "q_proj", n, heads * d, qkv_bias), heads)
        k = split_heads(w.linear(a + "k_proj", n, kv_heads * d, qkv_bias),
                        kv_heads)
        v = split_heads(w.linear(a + "v_proj", n, kv_heads * d, qkv_bias),
                        kv_heads)
        if family == "qwen3":
            q = w.rms_norm(a + "q_norm", q, eps)
            k = w.rms_norm(a + "k_norm", k, eps)
        q, k = rotate(q, inverse), rotate(k, inverse)
        k = k.repeat_interleave(heads // kv_heads, dim=0)
        v = v.repeat_interleave(heads // kv_heads, dim=0)
        x = x + w.linear(a + "o_proj", attend(q, k, v, d ** -0.5, window),
                         hidden, attention_bias)
        n = w.rms_norm(p + "post_attention_layernorm", x, eps)
        bias, ffn = c.get("mlp_bias", False), c["intermediate_size"]
        gate = act(w.linear(p + "mlp.gate_proj", n, ffn, bias))
        up = w.linear(p + "mlp.up_proj", n, ffn, bias)
        x = x + w.linear(p + "mlp.down_proj", gate * up, hidden, bias)
    return w.lm_head("embed_tokens.weight", w.rms_norm("norm", x, eps),
                     c["tie_word_embeddings"])


def gpt2_logits(c, w, tokens):
    hidden, heads = c["n_embd"], c["n_head"]
    scale = ((hidden // heads) ** -0.5 if c.get("scale_attn_weights", True)
             else 1.0)
    act = ACTIVATIONS[c.get("activation_function", "gelu_new")]
    x = w.get("wte.weight", [VOCAB, hidden])[tokens]
    x = x + w.get("wpe.weight", [c["n_positions"], hidden])[:len(tokens)]
    for layer in range(c["n_layer"]):
        p = f"h.{layer}."
        n = w.layer_norm(p + "ln_1", x, 1e-5, True)
        q, k, v = w.conv1d(p + "attn.c_attn", n, 3 * hidden).chunk(3, dim=-1)
        out = attend(split_heads(q, heads), split_heads(k, heads),
                     split_heads(v, heads), scale)
        x = x + w.conv1d(p + "attn.c_proj", out, hidden)
        n = w.layer_norm(p + "ln_2", x, 1e-5, True)
        inner = act(w.conv1d(p + "mlp.c_fc", n,
                             c.get("n_inner") or 4 * hidden))
        x = x + w.conv1d(p + "mlp.c_proj", inner, hidden)
    return w.lm_head("wte.weight", w.layer_norm("ln_f", x, 1e-5, True),
                     c.get("tie_word_embeddings", True))


def alibi_bias(heads, tokens, bias_max):
    power = 2 ** math.ceil(math.log2(heads))
    base = torch.arange(1, power + 1).float() * bias_max / power
    slopes = 2.0 ** -base
    if power != heads:
        slopes = torch.cat([slopes[1::2], slopes[::2]])[:heads]
    keys = torch.arange(1 - tokens, 1).float()
    return slopes.view(heads, 1, 1) * keys.view(1, 1, tokens)


def mpt_logits(c, w, tokens):
    hidden, heads, attn = c["d_model"], c["n_heads"], c["attn_config"]
    scale = attn.get("softmax_scale") or (hidden // heads) ** -0.5
    bias = alibi_bias(heads, len(tokens), attn.get("alibi_bias_max", 8))
    x = w.get("wte.weight", [VOCAB, hidden])[tokens]
    for layer in range(c["n_layers"]):
        p = f"blocks.{layer}."
        n = w.layer_norm(p + "norm_1", x, 1e-5, False)
        qkv = w.linear(p + "attn.Wqkv", n, 3 * hidden, False)
        if attn.get("clip_qkv"):
            qkv = qkv.clamp(-attn["clip_qkv"], attn["clip_qkv"])
        q, k, v = (split_heads(part, heads) for part in qkv.chunk(3, dim=-1))
        x = x + w.linear(p + "attn.out_proj",
                         attend(q, k, v, scale, bias=bias), hidden, False)
        n = w.layer_norm(p + "norm_2", x, 1e-5, False)
        inner = F.gelu(w.linear(p + "ffn.up_proj", n,
                                c["expansion_ratio"] * hidden, False))
        x = x + w.linear(p + "ffn.down_proj", inner, hidden, False)
    return w.lm_head("wte.weight", w.layer_norm("norm_f", x, 1e-5, False),
                     c.get("tie_word_embeddings", True))


def write_safetensors(path, tensors):
    header, blobs, offset = {}, [], 0
    for name, tensor in tensors.items():
        blob = struct.pack(f"<{tensor.numel()}f",
                           *tensor.flatten().tolist())
        header[name] = dict(dtype="F32", shape=list(tensor.shape),
                            data_offsets=[offset, offset + len(blob)])
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(VARIANTS.items()):
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder)
        family = config["model_type"]
        logits_of, prefix = {
            "gpt2": (gpt2_logits, "transformer."),
            "mpt": (mpt_logits, "transformer."),
        }.get(family, (llama_logits, "model."))
        weights = Weights(seed, "" if name.endswith("_no_prefix") else prefix)
        generator = torch.Generator().manual_seed(1000 + seed)
        tokens = torch.randint(0, VOCAB, [TOKENS], generator=generator)
        with torch.no_grad():
            logits = logits_of(config, weights, tokens.tolist())
        write_safetensors(os.path.join(folder, "model.safetensors"),
                          weights.tensors)
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file, indent=1)
        with open(os.path.join(folder, "tokens.json"), "w") as file:
            json.dump(tokens.tolist(), file)
        with open(os.path.join(folder, "logits.f32"), "wb") as file:
            file.write(struct.pack(f"<{logits.numel()}f",
                                   *logits.flatten().tolist()))


if __name__ == "__main__":
    main()
