"""Writes a GGUF with random weights in the shape of a known model, to measure speed where no model can be had; needs numpy only.

    synthetic_gguf.py llama-3.2-1b F16 model.gguf      tiny, tiny-qwen2, llama-3.2-1b, qwen2.5-1.5b, llama-3.1-8b; F16, Q8_0, Q4_0
    synthetic_gguf.py --layers 2 llama-3.1-8b F16 ...  fewer layers than the original
    synthetic_gguf.py --prompts 1000 prompts.txt       prompts for such a model, one a line: 4 beginnings of 48 words, then 16 words

Its texts are random words. The tokenizer knows single bytes and as many words of one token (" aaaa", " aaab", ...) as the vocabulary of
the original has room for; the end-of-turn token is never among the likeliest, so that texts have the length that was asked for.
"""

import argparse
import itertools
import random
import string
import struct

import numpy

# name: (architecture, layers, width, feed-forward width, heads, key-value heads, head size, vocabulary, context, rope base, epsilon,
#        whether the output matrix is the embedding)
SHAPES = {
    "tiny": ("llama", 2, 64, 256, 2, 1, 64, 512, 4096, 10000.0, 1e-5, True),
    "tiny-qwen2": ("qwen2", 2, 128, 256, 2, 1, 64, 512, 4096, 10000.0, 1e-6, True),
    "llama-3.2-1b": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 500000.0, 1e-5, True),
    "qwen2.5-1.5b": ("qwen2", 28, 1536, 8960, 12, 2, 128, 151936, 32768, 1000000.0, 1e-6, True),
    "llama-3.1-8b": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072, 500000.0, 1e-5, False),
}
# name: (number of the file type, type of the matrices, type of the output matrix), as llama.cpp's quantiser chooses them
FORMATS = {"F16": (1, "F16", "F16"), "Q8_0": (7, "Q8_0", "Q8_0"), "Q4_0": (2, "Q4_0", "Q6_K")}
# type: (its number, values in a block, bytes of a block)
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q6_K": (14, 256, 210)}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NORMAL, CONTROL = 1, 3
# Standard deviation of the weights times the root of the width: the layers' outputs then outweigh the embedding, as in a trained model.
SPREAD = 0.9
ALIGNMENT = 32
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def bytes_as_letters():
    """GPT-2's letters for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def words():
    """Words that are one token after a space, without end for our purposes: 456,976 of them after four real ones."""
    yield from ("yes", "no", "positive", "negative")
    for letters in itertools.product(string.ascii_lowercase, repeat=4):
        yield "".join(letters)


def tokens(vocabulary):
    """The tokens' texts and types. The special ones come last, as in the originals."""
    letters = bytes_as_letters()
    ordinary = letters + ["Ġ" + word for word in itertools.islice(words(), vocabulary - len(letters) - len(SPECIAL))]
    return ordinary + SPECIAL, [NORMAL] * len(ordinary) + [CONTROL] * len(SPECIAL)


def string_bytes(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(data):
    """A metadata value with its type."""
    if isinstance(data, bool):
        return struct.pack("<I?", 7, data)
    if isinstance(data, int):
        return struct.pack("<II", 4, data)
    if isinstance(data, float):
        return struct.pack("<If", 6, data)
    if isinstance(data, str):
        return struct.pack("<I", 8) + string_bytes(data)
    if isinstance(data[0], int):
        return struct.pack(f"<IIQ{len(data)}i", 9, 5, len(data), *data)
    return struct.pack("<IIQ", 9, 8, len(data)) + b"".join(map(string_bytes, data))


def metadata(name, layers, file_type):
    architecture, _, width, feed_forward, heads, kv_heads, head, vocabulary, context, rope, epsilon, _ = SHAPES[name]
    texts, types = tokens(vocabulary)
    model = {
        "vocab_size": vocabulary,
        "context_length": context,
        "embedding_length": width,
        "block_count": layers,
        "feed_forward_length": feed_forward,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": epsilon,
        "rope.dimension_count": head,
        "rope.freq_base": rope,
    }
    end = vocabulary - len(SPECIAL)
    return {
        "general.architecture": architecture,
        "general.name": f"random weights, {name}",
        "general.file_type": file_type,
        "general.quantization_version": 2,
        **{f"{architecture}.{key}": data for key, data in model.items()},
        "tokenizer.ggml.model": "gpt2",
        # With these rules a word of the vocabulary is one token without merges.
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["Ġ y"],
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end + 2,
        "tokenizer.ggml.padding_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def tensors(name, layers, matrix, output):
    """(name, (rows, columns) or (columns,), type) of every tensor."""
    architecture, _, width, feed_forward, heads, kv_heads, head, vocabulary, _, _, _, tied = SHAPES[name]
    output = output if width % TYPES[output][1] == 0 else "Q8_0"
    yield "token_embd.weight", (vocabulary, width), output if tied else matrix
    for layer in range(layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,), "F32"
        for part, rows in (("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)):
            yield f"{block}attn_{part}.weight", (rows, width), matrix
            if architecture == "qwen2":
                yield f"{block}attn_{part}.bias", (rows,), "F32"
        yield block + "attn_output.weight", (width, heads * head), matrix
        yield block + "ffn_norm.weight", (width,), "F32"
        yield block + "ffn_gate.weight", (feed_forward, width), matrix
        yield block + "ffn_up.weight", (feed_forward, width), matrix
        yield block + "ffn_down.weight", (width, feed_forward), matrix
    yield "output_norm.weight", (width,), "F32"
    if not tied:
        yield "output.weight", (vocabulary, width), output


def size(shape, kind):
    _, values, block = TYPES[kind]
    return int(numpy.prod(shape)) // values * block


class Weights:
    """A stretch of random blocks of each type, repeated; its length is odd, so that no two rows of a matrix are alike."""

    def __init__(self, seed, spread):
        self.random = numpy.random.default_rng(seed)
        self.spread = spread
        self.stretches = {}
        self.at = 0

    def stretch(self, kind):
        if kind not in self.stretches:
            self.stretches[kind] = memoryview(self.blocks(kind, (1 << 24) // TYPES[kind][1] + 1).tobytes())
        return self.stretches[kind]

    def blocks(self, kind, count):
        """(count, bytes of a block)"""
        if kind == "F16":
            return (self.spread * self.random.standard_normal(count, numpy.float32)).astype("<f2")
        part = lambda bytes: self.random.integers(0, 256, (count, bytes), numpy.uint8)
        scale = lambda spread: numpy.full((count, 1), self.spread / spread, "<f2").view(numpy.uint8)
        if kind == "Q8_0":
            numbers = (30 * self.random.standard_normal((count, 32), numpy.float32)).round().clip(-127, 127).astype(numpy.int8)
            return numpy.hstack([scale(30), numbers.view(numpy.uint8)])
        if kind == "Q4_0":
            return numpy.hstack([scale(4.6), part(16)])
        # Q6_K: 128 + 64 bytes of numbers, 16 scales, all 48 here, and their scale.
        return numpy.hstack([part(192), numpy.full((count, 16), 48, numpy.uint8), scale(18.5 * 48)])

    def write(self, file, kind, bytes):
        """Goes on in the stretch where the tensor before ended."""
        stretch, block = self.stretch(kind), TYPES[kind][2]
        start = self.at % (len(stretch) // block) * block
        self.at += bytes // block + 1
        while bytes > 0:
            piece = stretch[start : start + bytes]
            file.write(piece)
            bytes -= len(piece)
            start = 0


def write_model(name, format, path, layers, seed):
    file_type, matrix, output = FORMATS[format]
    values = metadata(name, layers, file_type)
    plan = list(tensors(name, layers, matrix, output))
    weights = Weights(seed, SPREAD / SHAPES[name][2] ** 0.5)
    padding = lambda at: bytes(-at % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(plan), len(values)))
        for key, data in values.items():
            file.write(string_bytes(key) + value(data))
        offset = 0
        for tensor, shape, kind in plan:
            file.write(string_bytes(tensor) + struct.pack("<I", len(shape)))
            file.write(struct.pack(f"<{len(shape)}QIQ", *reversed(shape), TYPES[kind][0], offset))
            offset += size(shape, kind) + len(padding(size(shape, kind)))
        file.write(padding(file.tell()))
        for tensor, shape, kind in plan:
            start = file.tell()
            if len(shape) == 1:
                middle = 1 if tensor.endswith("norm.weight") else 0
                file.write((middle + weights.spread * weights.random.standard_normal(shape)).astype("<f4").tobytes())
            elif tensor in ("token_embd.weight", "output.weight"):
                # Zeros for the special tokens: among many random logits theirs, 0, is never one of the highest.
                zeros = size((len(SPECIAL), shape[1]), kind)
                weights.write(file, kind, size(shape, kind) - zeros)
                file.write(bytes(zeros))
            else:
                weights.write(file, kind, size(shape, kind))
            file.write(padding(file.tell() - start))


def write_prompts(count, path):
    draw = random.Random(7)
    # Words that the smallest vocabulary has.
    known = list(itertools.islice(words(), 4, 240))
    text = lambda n: " ".join(draw.choice(known) for _ in range(n))
    beginnings = [text(48) for _ in range(4)]
    with open(path, "w") as file:
        for i in range(count):
            file.write(f" {beginnings[i % 4]} {text(16)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", choices=SHAPES)
    parser.add_argument("format", nargs="?", choices=FORMATS)
    parser.add_argument("path")
    parser.add_argument("--layers", type=int, help="number of layers (default: the original's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompts", type=int, metavar="N", help="write N prompts instead of a model")
    args = parser.parse_args()
    if args.prompts:
        write_prompts(args.prompts, args.path)
    elif args.format:
        write_model(args.shape, args.format, args.path, args.layers or SHAPES[args.shape][1], args.seed)
    else:
        parser.error("give a shape, a format and a file")


if __name__ == "__main__":
    main()
