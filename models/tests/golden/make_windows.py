"""Windows of long contexts as transformers makes them for question answering; the values of `tests/tokenize.rs`.

    make_windows.py [FOLDER]    FOLDER: where tokenizer.json and windows.json go; windows/ beside this file if absent

Input ids and offsets (in characters) come from the tokenizer, with truncation="only_second" and return_overflowing_tokens; the tokens of
the answer are found as transformers' example scripts for SQuAD do.
"""

import json
import os
import sys

from transformers import BertTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789")

CASES = [
    ("Who came?", "Zoë came, and Øystein left early.", "Øystein"),
    ("When?", "It was in 1987 that the café “Noir” opened; in 1990, it closed.", "1990"),
    ("what is it", "日本 is a country. naïve ﬁlm fans went there in May", "ﬁlm fans"),
    ("a b c", "x" * 9 + " " + "y z " * 20 + "Q end", "Q end"),
    ("where", "  spaces   before and\tbetween words  ", "between"),
    ("How?", "short one", "short one"),
]
ROOMS = [(24, 4), (30, 8), (40, 16), (200, 64)]


def span_of(offsets, first, answer):
    """The answer's tokens by run_qa.py; (0, 0) where the window does not hold all of it."""
    start, end = answer
    last = len(offsets) - 1
    if not (offsets and offsets[0][0] <= start and offsets[last][1] >= end):
        return [0, 0]
    left = 0
    while left <= last and offsets[left][0] <= start:
        left += 1
    right = last
    while right >= 0 and offsets[right][1] >= end:
        right -= 1
    return [first + left - 1, first + right + 1]


def windows(tokenizer, question, context, answer, room, stride):
    encoded = tokenizer(
        question, context, truncation="only_second", max_length=room, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )
    for i, ids in enumerate(encoded["input_ids"]):
        of_context = [t for t, sequence in enumerate(encoded.sequence_ids(i)) if sequence == 1]
        offsets = [encoded["offset_mapping"][i][t] for t in of_context]
        flat = [character for ends in offsets for character in ends]
        yield {"input_ids": ids, "offsets": flat, "span": span_of(offsets, of_context[0], answer)}


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "windows")
    os.makedirs(folder, exist_ok=True)
    vocabulary = os.path.join(folder, "vocab.txt")
    with open(vocabulary, "w", encoding="utf-8") as file:
        file.write("\n".join(SPECIAL + LETTERS + ["##" + letter for letter in LETTERS] + list(".,;?“”日本")) + "\n")
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    os.remove(vocabulary)
    cases = []
    for question, context, answer in CASES:
        start = context.index(answer)
        ends = (start, start + len(answer))
        for room, stride in ROOMS:
            found = list(windows(tokenizer, question, context, ends, room, stride))
            cases.append({
                "question": question, "context": context, "answer_start": ends[0], "answer_end": ends[1],
                "max_tokens": room, "stride": stride, "windows": found,
            })
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "windows.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


main()
