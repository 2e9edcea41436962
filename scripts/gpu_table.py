"""Prints the results of scripts/gpu-check.sh as tables.

    gpu_table.py results.jsonl
"""

import json
import sys

SPEEDS = [
    ("model", "model"), ("side", "side"), ("slots", "slots"), ("layout", "layout"), ("contexts", "contexts"), ("logits", "logits"),
    ("top_k", "top-k"), ("tokens_per_second", "tokens/s"),
    ("texts_per_second", "texts/s"), ("questions_per_second", "questions/s"), ("steps", "steps"),
]
COMPARED = [
    ("model", "model"), ("layout", "layout"), ("texts", "texts"), ("same_texts", "same"), ("same_start", "same start"),
    ("mean_log_prob_difference", "mean difference"), ("largest_log_prob_difference", "largest"), ("finite", "finite"),
]


def cell(value):
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def table(title, columns, lines):
    if not lines:
        return
    rows = [[name for _, name in columns]] + [[cell(line.get(key)) for key, _ in columns] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width for width in widths])
    print(f"\n{title}\n")
    for row in rows:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |")


def main():
    with open(sys.argv[1]) as file:
        lines = [json.loads(line) for line in file]
    good = [line for line in lines if "error" not in line]
    table("GPU against CPU: greedy texts, and log-probabilities of answers", COMPARED, [line for line in good if line["part"] == "same"])
    for line in good:
        if line["part"] == "same" and not (line["finite"] and line["mean_log_prob_difference"] < 0.1):
            print(f"\n{line['model']}, {line['layout']}: the GPU's answers are NOT the CPU's")
    written = [line for line in good if line["part"] in ("speed", "rival", "large")]
    table("Speeds", SPEEDS, sorted(written, key=lambda line: (line["model"], line["side"])))
    for model in sorted({line["model"] for line in written}):
        best = {}
        for line in written:
            if line["model"] == model:
                best[line["side"]] = max(best.get(line["side"], 0), line.get("tokens_per_second", 0))
        for side in ("llama-server", "decoding alone"):
            if best.get("lacuna") and best.get(side):
                print(f"\n{model}: lacuna at its best writes {best['lacuna'] / best[side]:.2f}x as fast as {side} at its best")
    for line in good:
        if line["part"] in ("loop", "chosen"):
            print(f"\nA whole run ({line['part']}), seconds by stage: {line['seconds']}")
    rest = [line for line in good if line["part"] == "small"]
    columns = [(key, key) for key in dict.fromkeys(key for line in rest for key in line) if key != "part"]
    table("Small model", columns, rest)
    for line in lines:
        if "error" in line:
            print(f"\nfailed: {line}")


if __name__ == "__main__":
    main()
