"""Compares the small model's training steps and forward passes with PyTorch's: same weights, same batches, same cores, alternating.

Run by scripts/bench_torch.sh, which builds the Rust side and installs torch and transformers where they are missing. Prints each
contestant's median and its ratios to PyTorch.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

VOCABULARY = 30_522
# Those of the architectures are of base size: 12 layers, or 22 of ModernBERT's, of hidden size 768.
ARCHITECTURES = {"bert": "Bert", "roberta": "Roberta", "mpnet": "MPNet", "electra": "Electra", "modernbert": "ModernBert", "deberta": "DebertaV2"}
SHAPES = ["minilm", "distilbert", *ARCHITECTURES]
ROWS, TOKENS = 16, 128


def new_model(shape):
    torch.manual_seed(0)
    if shape == "minilm":
        config = transformers.BertConfig(
            vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=2
        )
        return transformers.BertForSequenceClassification(config)
    if shape in ARCHITECTURES:
        name = ARCHITECTURES[shape]
        further = {
            "roberta": dict(max_position_embeddings=514, type_vocab_size=1),
            "mpnet": dict(max_position_embeddings=514),
            "electra": dict(embedding_size=768, hidden_size=768, num_attention_heads=12, intermediate_size=3072),
            "deberta": dict(
                hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, relative_attention=True,
                position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
            ),
            "modernbert": dict(pad_token_id=0, bos_token_id=None, eos_token_id=None, cls_token_id=1, sep_token_id=2),
        }.get(shape, {})
        config = getattr(transformers, f"{name}Config")(vocab_size=VOCABULARY, num_labels=2, **further)
        return getattr(transformers, f"{name}ForSequenceClassification")(config)
    config = transformers.DistilBertConfig(vocab_size=VOCABULARY, num_labels=2)
    return transformers.DistilBertForSequenceClassification(config)


def random_batch(rows, tokens):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, VOCABULARY, (rows, tokens), generator=generator)
    return {"input_ids": ids.tolist(), "token_type_ids": [[0] * tokens] * rows, "labels": [row % 2 for row in range(rows)]}


class Torch:
    """PyTorch eager with the fused AdamW, in f32 or with bf16 autocast."""

    def __init__(self, model, batches, bf16):
        self.model, self.bf16 = model, bf16
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        self.batches = [self.tensors(batch) for batch in batches]

    def tensors(self, batch):
        longest = max(map(len, batch["input_ids"]))
        pad = lambda rows: torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        tensors = {"input_ids": pad(batch["input_ids"]), "labels": torch.tensor(batch["labels"])}
        tensors["attention_mask"] = pad([[1] * len(row) for row in batch["input_ids"]])
        if self.model.config.model_type in ("bert", "electra"):
            tensors["token_type_ids"] = pad(batch["token_type_ids"])
        return tensors

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def train(self, number=0):
        self.model.train()
        start = time.perf_counter()
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.model(**self.batches[number]).loss
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start

    def infer(self, number=0):
        self.model.eval()
        start = time.perf_counter()
        with torch.inference_mode(), self.autocast():
            self.logits = self.model(**self.batches[number]).logits
        return time.perf_counter() - start


class Ours:
    """The Rust side: a process that answers commands."""

    def __init__(self, server, folder, precision, threads, batches, *learning):
        command = [server, folder, precision, str(threads), batches, *map(str, learning)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def train(self, number=0):
        return self.ask(f"train {number}")

    def infer(self, number=0):
        return self.ask(f"infer {number}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def medians(contestants, work, rounds):
    """Median seconds of each contestant: after one warm-up round, all of them take turns, round after round."""
    times = {name: [] for name in contestants}
    for round in range(rounds + 1):
        for name, contestant in contestants.items():
            seconds = getattr(contestant, work)()
            if round > 0:
                times[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def show(title, found):
    print(f"\n{title}")
    print(f"{'':16}{'median s':>10}{'x torch f32':>14}{'x torch bf16':>14}")
    for name, seconds in found.items():
        bases = [found.get(f"torch {precision}") for precision in ("f32", "bf16")]
        ratios = "".join(f"{base / seconds:>14.2f}" if base else f"{'':14}" for base in bases)
        print(f"{name:16}{seconds:>10.4f}{ratios}", flush=True)


def same_logits(folder, server, batches_file, torch_side):
    """Checks that both sides read the same weights: their f32 logits may differ by rounding only."""
    ours = Ours(server, folder, "f32", 1, batches_file)
    torch_side.infer()
    difference = (torch.tensor(ours.ask("logits 0")) - torch_side.logits.flatten()).abs().max().item()
    ours.close()
    print(f"largest difference of the f32 logits: {difference:.1e}")
    assert difference < 1e-4, "the two sides do not compute the same"


def race(shape, threads, options, folder):
    torch.set_num_threads(threads)
    batches_file = os.path.join(folder, "batches.json")
    batches = [random_batch(options.rows, options.tokens)]
    with open(batches_file, "w") as file:
        json.dump(batches, file)
    torches = {f"torch {rival}": Torch(new_model(shape), batches, rival == "bf16") for rival in options.rivals}
    torches["torch f32"].model.save_pretrained(folder)
    same_logits(folder, options.server, batches_file, torches["torch f32"])
    ours = {f"lacuna {p}": Ours(options.server, folder, p, threads, batches_file) for p in options.precisions}
    contestants = {**torches, **ours}
    title = f"{shape}, {options.rows} x {options.tokens} tokens, {threads} thread(s)"
    show(f"training step, {title}", medians(contestants, "train", options.rounds))
    show(f"inference, {title}", medians(contestants, "infer", options.rounds))
    for contestant in ours.values():
        contestant.close()


def torch_memory(shape, bf16, rows, tokens):
    """Peak resident memory of a process that does two steps, in bytes."""
    side = Torch(new_model(shape), [random_batch(rows, tokens)], bf16)
    side.train(), side.train()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def compare_memory(shape, options, folder):
    found = {}
    for rival in options.rivals:
        sizes = ["--rows", str(options.rows), "--tokens", str(options.tokens)]
        command = [sys.executable, __file__, options.server, "--memory-of", shape, *sizes, "--rivals", rival]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[f"torch {rival}"] = int(output.split()[-1])
    for precision in options.precisions:
        ours = Ours(options.server, folder, precision, 1, os.path.join(folder, "batches.json"))
        ours.train(), ours.train()
        found[f"lacuna {precision}"] = ours.ask("memory")
        ours.close()
    print(f"\npeak memory of a training step, {shape}, {options.rows} x {options.tokens} tokens, 1 thread")
    for name, size in found.items():
        print(f"{name:16}{size / 1e6:>8.0f} MB {100 * size / found['torch f32']:>5.0f} % of torch f32")


def hardware():
    with open("/proc/cpuinfo") as file:
        lines = file.read().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    print(f"{model}, {os.cpu_count()} CPUs, {' '.join(known)}; torch {torch.__version__}, transformers {transformers.__version__}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", help="the binary of models/benches/step_server.rs")
    parser.add_argument("--shapes", nargs="+", default=SHAPES[:2], choices=SHAPES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--precisions", nargs="+", default=["f32", "auto"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens of each row")
    parser.add_argument("--rows", type=int, default=ROWS)
    rivals = "what PyTorch computes in: bf16 is very slow on a processor without its instructions"
    parser.add_argument("--rivals", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"], help=rivals)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "f32" not in options.rivals and not options.memory_of:
        parser.error("--rivals: f32 is what the others are compared with")
    if options.memory_of:
        torch.set_num_threads(1)
        return print(torch_memory(options.memory_of, options.rivals == ["bf16"], options.rows, options.tokens))
    hardware()
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as folder:
            for threads in options.threads:
                race(shape, threads, options, folder)
            compare_memory(shape, options, folder)


if __name__ == "__main__":
    main()
