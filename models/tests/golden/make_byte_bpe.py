"""A byte-level BPE tokenizer and the ids that transformers gives for odd texts; the values of `tests/tokenize.rs`.

    make_byte_bpe.py    writes byte_bpe/ beside this file: vocab.json, merges.txt, tokenizer.json, ids.json

Needs tokenizers and transformers.
"""

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CORPUS = ["The film was good, and the actors were better.", "A warm film with a good heart.", "naïve café déjà vu", "日本の映画"] * 20
TEXTS = [
    "The film was good.", "  spaces   before and\tbetween ", "naïve café — déjà vu", "日本の映画は😀👍🏽", "</s> and <s> are text", "a<mask>b",
    "", "\u0000\u200b\ufeff odd", "don't we'll I'm 12345", "مرحبا بالعالم", "line\nline\r\nline", "ﬁlm ½ ﷺ",
]

if __name__ == "__main__":
    folder = Path(__file__).parent / "byte_bpe"
    folder.mkdir(exist_ok=True)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=320, special_tokens=SPECIAL)
    trained.save_model(str(folder))
    tokenizer = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    # The names of special tokens in a text are text.
    single = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in TEXTS]
    pairs = [tokenizer(text, TEXTS[0], split_special_tokens=True)["input_ids"] for text in TEXTS]
    (folder / "ids.json").write_text(json.dumps({"texts": TEXTS, "single": single, "pairs": pairs}, ensure_ascii=False) + "\n")
