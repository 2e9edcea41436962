"""Changes every field of a small GGUF's header in every way that a damaged or hostile file may, and lets lacuna label texts with each:
none may end it in a crash, an abort or without an end.

    synthetic_gguf.py tiny F16 tiny.gguf
    hostile_gguf.py tiny.gguf SMALL_MODEL --lacuna target/release/lacuna --mutations 10000

SMALL_MODEL is a folder with a BERT. Prints how many files ended with which exit code, and each one that ended in another way than with
0 to 6; the exit code is then 1. Needs Python alone.
"""

import argparse
import collections
import concurrent.futures
import os
import random
import shutil
import struct
import subprocess
import tempfile

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
LONGEST = 20  # seconds
TASK = """name = "hostile"
kind = "text"
labels = [{{ name = "negative" }}, {{ name = "positive" }}]
data = {{ gold = "gold.jsonl" }}
models = {{ generator = "model.gguf", small = "{small}" }}
[seed]
rationales = 0
[prompts.seed]
user = "Write {{{{ label }}}}"
[prompts.extrapolate]
user = "Like {{{{ text }}}}"
[[prompts.judge]]
user = "{{{{ text }}}}"
answer_start = "It is"
"""


def fields(data):
    """The places of the header: (name, offset, bytes) of each number, length and text."""
    found = [("version", 4, 4), ("tensor count", 8, 8), ("key count", 16, 8)]
    at = 24

    def integer(size):
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "little")

    def text(name):
        nonlocal at
        found.append((name + " length", at, 8))
        length = integer(8)
        found.append((name, at, length))
        at += length
        return data[at - length : at].decode()

    tensors, keys = struct.unpack_from("<QQ", data, 8)
    for _ in range(keys):
        key = text("key")
        found.append((key + " type", at, 4))
        kind = integer(4)
        if kind == STRING:
            text(key)
        elif kind == ARRAY:
            found += [(key + " item type", at, 4), (key + " items", at + 4, 8)]
            item, items = integer(4), integer(8)
            for i in range(items):
                if item == STRING:
                    # Of a vocabulary, a few tokens stand for all.
                    kept = len(found)
                    text(f"{key}[{i}]")
                    if i > 2:
                        del found[kept:]
                else:
                    if i < 3:
                        found.append((f"{key}[{i}]", at, SIZES[item]))
                    at += SIZES[item]
        else:
            found.append((key, at, SIZES[kind]))
            at += SIZES[kind]
    for i in range(tensors):
        name = text("tensor name")
        found.append((name + " dimensions", at, 4))
        for d in range(integer(4)):
            found.append((f"{name} dimension {d}", at, 8))
            at += 8
        found += [(name + " format", at, 4), (name + " offset", at + 4, 8)]
        at += 12
    return found


def mutation(data, place, draw):
    name, offset, size = place
    copy = bytearray(data)
    if size == 0:
        return copy
    largest = (1 << 8 * size) - 1
    now = int.from_bytes(data[offset : offset + size], "little")
    values = [0, 1, 2, 3, 7, largest, largest >> 1, (largest >> 1) + 1, now + 1, now - 1, now * 2, now // 2, now ^ (1 << draw.randrange(8 * size)), draw.randrange(largest + 1), 1 << draw.randrange(8 * size), 1000, 513, 70000]
    copy[offset : offset + size] = (draw.choice(values) & largest).to_bytes(size, "little")
    return copy


def tried(arguments, data, place, number):
    draw = random.Random(number)
    folder = tempfile.mkdtemp(prefix="hostile-")
    try:
        with open(folder + "/model.gguf", "wb") as file:
            file.write(mutation(data, place, draw))
        with open(folder + "/gold.jsonl", "w") as file:
            for i in range(12):
                label = ["negative", "positive"][i % 2]
                file.write('{"text": "a %s film %d", "label": "%s"}\n' % (["dull", "fine"][i % 2], i, label))
        with open(folder + "/texts", "w") as file:
            file.write("a warm film\n")
        with open(folder + "/task.toml", "w") as file:
            file.write(TASK.format(small=os.path.abspath(arguments.small)))
        settings = "--weights as-is --slots 4 --kv f16 --kv-unified true --n-batch 64 --threads 1 --device cpu --quiet".split()
        command = [os.path.abspath(arguments.lacuna), "label", "task.toml", "texts", "--run", "run", *settings]
        environment = {**os.environ, "LACUNA_HOME": folder + "/home", "MALLOC_ARENA_MAX": "2"}
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=LONGEST, env=environment)
            return done.returncode, done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            return "no end", []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("small")
    parser.add_argument("--lacuna", default="target/release/lacuna")
    parser.add_argument("--mutations", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    data = open(arguments.gguf, "rb").read()
    places = fields(data)
    counts, said, crashed = collections.Counter(), collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        numbers = range(arguments.first, arguments.first + arguments.mutations)
        work = [(number, places[number % len(places)]) for number in numbers]
        for (number, place), (code, line) in zip(work, pool.map(lambda one: tried(arguments, data, one[1], one[0]), work)):
            counts[code] += 1
            if line and "gave up" in line[0]:
                said[line[0].split("(", 1)[1][:60]] += 1
            if code not in range(7):
                crashed.append((number, place[0], code, line))
                print("mutation %d of %r: %s %s" % (number, place[0], code, line), flush=True)
    print("%d fields, %d mutations, exit codes %s" % (len(places), arguments.mutations, dict(counts)))
    print("of them caught while llama.cpp gave up: %d" % sum(said.values()))
    raise SystemExit(1 if crashed else 0)


main()
