"""Makes a folder with a whole task of random words, to see how long each stage of the loop takes where no model can be had; needs numpy.

    gpu_loop.py FOLDER GENERATOR.gguf [--rows 4000] [--small-layers 6]     writes FOLDER/task.toml, gold, test and a small model
    gpu_loop.py --report FOLDER                                            prints a line of JSON after `lacuna run`

The generator is one of scripts/synthetic_gguf.py, the small model has the shape of MiniLM-L6 and random weights: only seconds mean
anything.
"""

import argparse
import json
import os
import random
import struct

import numpy

from synthetic_gguf import words

TASK = """
name = "loop"
kind = "text"
labels = [{{ name = "negative" }}, {{ name = "positive" }}]

[data]
gold = "gold.jsonl"
test = "test.jsonl"

[models]
generator = {generator}
small = "small"

[sampling]
temperature = 1.0
top_p = 1.0
top_k = 40
max_tokens = 48
# A text that no stop string ends is none. Of the words, 128,000 and 250, these are one in 25 and one in 10.
stop = [" ba", " bb", " bc", " bd", " be", " bf", " bg", " aab"]

[seed]
rationales = 20
rows = {rows}

[extrapolate]
rows = {round}
max_rounds = 2
patience = 3

[train]
epochs = 3
batch = 16

[prompts.rationale]
user = "Why is a text {{{{ label }}}}? Give one short reason."
max_tokens = 24

[prompts.seed]
user = "Write a {{{{ label }}}} text.{{% for rationale in rationales %}} {{{{ rationale }}}}{{% endfor %}}"

[prompts.extrapolate]
user = "Write another {{{{ label }}}} text like this one. {{{{ text }}}}"

[[prompts.judge]]
user = "Is this text positive or negative? {{{{ text }}}}"
answer_start = "It is"
words = {{ negative = " negative", positive = " positive" }}
"""


def vocabulary():
    words_of = iter(words())
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + [next(words_of) for _ in range(30518)]


def write_rows(path, count, known, source):
    with open(path, "w") as file:
        for i in range(count):
            text = " ".join(source.choices(known[4:], k=source.randint(8, 40)))
            file.write(json.dumps({"text": text, "label": ["negative", "positive"][i % 2]}) + "\n")


def tensors(layers, hidden, vocab):
    shapes = {
        "embeddings.word_embeddings.weight": (vocab, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    for i in range(layers):
        at = f"encoder.layer.{i}."
        for name, rows, columns in [
            ("attention.self.query", hidden, hidden), ("attention.self.key", hidden, hidden), ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden), ("intermediate.dense", 4 * hidden, hidden), ("output.dense", hidden, 4 * hidden),
        ]:
            shapes[f"{at}{name}.weight"], shapes[f"{at}{name}.bias"] = (rows, columns), (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{at}{name}.weight"], shapes[f"{at}{name}.bias"] = (hidden,), (hidden,)
    return shapes


def write_small(folder, layers, hidden, known):
    os.makedirs(folder, exist_ok=True)
    config = {
        "model_type": "bert", "vocab_size": len(known), "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32, "intermediate_size": 4 * hidden, "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": 0,
    }
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(known)}, "unk_token": "[UNK]"},
    }
    for name, content in (("config.json", config), ("tokenizer.json", tokenizer)):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file)
    generator = numpy.random.default_rng(1)
    header, offset, shapes = {}, 0, tensors(layers, hidden, len(known))
    for name, shape in shapes.items():
        size = 4 * int(numpy.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, shape in shapes.items():
            ones = name.endswith("LayerNorm.weight")
            values = numpy.ones(shape) if ones else 0.02 * generator.standard_normal(shape)
            file.write(values.astype("<f4").tobytes())


def report(folder):
    seconds = {}
    with open(os.path.join(folder, "run", "seconds.jsonl")) as file:
        for line in map(json.loads, file):
            part = line["part"]
            name = part if isinstance(part, str) else next(iter(part))
            seconds[name] = seconds.get(name, 0.0) + line["seconds"]
    print(json.dumps({"side": "loop", "seconds": {name: round(value, 2) for name, value in seconds.items()}}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("generator", nargs="?")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--small-layers", type=int, default=6)
    parser.add_argument("--small-width", type=int, default=384)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.folder)
        return
    known, source = vocabulary(), random.Random(7)
    os.makedirs(options.folder, exist_ok=True)
    write_rows(os.path.join(options.folder, "gold.jsonl"), 200, known, source)
    write_rows(os.path.join(options.folder, "test.jsonl"), 400, known, source)
    write_small(os.path.join(options.folder, "small"), options.small_layers, options.small_width, known)
    with open(os.path.join(options.folder, "task.toml"), "w") as file:
        generator = json.dumps(os.path.abspath(options.generator))
        file.write(TASK.format(generator=generator, rows=options.rows, round=max(8, options.rows // 4)))


if __name__ == "__main__":
    main()
