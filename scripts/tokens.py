"""Compares token ids with those of transformers, on odd texts in some 200 languages.

    tokens.py SERVER [FOLDER...]      needs transformers, sentencepiece and babel

SERVER is the binary of models/benches/token_server.rs: `cargo bench -p lacuna-models --bench token_server --no-run` builds it. FOLDERs
are model folders with a tokenizer; besides, a byte-level BPE (RoBERTa's), a Unigram (XLM-RoBERTa's and DeBERTa-v3's, by sentencepiece) and a
WordPiece (BERT's, cased and not) are trained on a part of the texts. Special tokens in a text are text. Prints the differences of each.
"""

import json
import os
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import babel
import sentencepiece
import transformers
from tokenizers import ByteLevelBPETokenizer, BertWordPieceTokenizer
from transformers.convert_slow_tokenizer import DebertaV2Converter, XLMRobertaConverter

TEXTS = 100_000
SPECIAL = ["[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "<s>", "</s>", "<mask>", "<unk>", "<pad>", "##ing", "\u2581", "\u0120the"]
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF), (0x1000, 0x109F),
          (0x10A0, 0x10FF), (0x1200, 0x137F), (0x1780, 0x17FF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
          (0xAC00, 0xD7A3), (0xFB00, 0xFFEF), (0x1F300, 0x1FAFF), (0x1D400, 0x1D7FF), (0x0, 0x1F), (0x7F, 0x9F), (0xE0020, 0xE007F)]
JOINED = ["\u200d", "\ufe0f", "\u200b", "\u00ad", "\u0301", "\n", "\t", "  ", "'s", "n't", "...", "\ufeff", "\U0001f469\u200d\U0001f469\u200d\U0001f467"]


def words_of_the_world():
    """Names of territories, languages, months and days in every language that babel knows."""
    words = []
    for name in babel.localedata.locale_identifiers():
        locale = babel.Locale.parse(name)
        for table in (locale.territories, locale.languages):
            words += list(table.values())
        words += locale.months["format"]["wide"].values()
    return sorted(set(words))


def texts(seed=1):
    random.seed(seed)
    words, made = words_of_the_world(), []
    for _ in range(TEXTS):
        parts = []
        for _ in range(random.randint(0, 12)):
            kind = random.random()
            if kind < 0.6:
                parts.append(random.choice(words))
            elif kind < 0.8:
                low, high = random.choice(RANGES)
                parts.append("".join(chr(random.randint(low, high)) for _ in range(random.randint(1, 6))))
            elif kind < 0.9:
                parts.append(random.choice(JOINED))
            else:
                parts.append(random.choice(SPECIAL))
        made.append(random.choice(["", " "]).join(parts) if random.random() < 0.2 else " ".join(parts))
    return made


def trained(folder, some):
    """Folders with tokenizers of the kinds that no folder was named for."""
    corpus = os.path.join(folder, "corpus.txt")
    with open(corpus, "w", encoding="utf-8") as file:
        file.writelines(" ".join(text.split()) + "\n" for text in some)
    made = {}
    for cased in (True, False):
        kind = "WordPiece, cased" if cased else "WordPiece"
        made[kind] = os.path.join(folder, f"bert-{cased}")
        os.makedirs(made[kind])
        words = BertWordPieceTokenizer(lowercase=not cased)
        words.train([corpus], vocab_size=8000, show_progress=False)
        words.save_model(made[kind])
        fast = transformers.BertTokenizerFast(vocab=os.path.join(made[kind], "vocab.txt"), do_lower_case=not cased)
        fast.save_pretrained(made[kind])
    made["byte-level BPE"] = os.path.join(folder, "roberta")
    os.makedirs(made["byte-level BPE"])
    pairs = ByteLevelBPETokenizer()
    pairs.train([corpus], vocab_size=8000, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    pairs.save_model(made["byte-level BPE"])
    files = [os.path.join(made["byte-level BPE"], name) for name in ("vocab.json", "merges.txt")]
    transformers.RobertaTokenizerFast(vocab=files[0], merges=files[1]).save_pretrained(made["byte-level BPE"])
    pieces = {
        "Unigram, XLM-RoBERTa": (XLMRobertaConverter, dict(minloglevel=2)),
        "Unigram, DeBERTa": (DebertaV2Converter, dict(pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", pad_id=0,
                                                      bos_id=1, eos_id=2, unk_id=3, minloglevel=2)),
    }
    for kind, (converter, special) in pieces.items():
        prefix = os.path.join(folder, kind.split()[-1].lower())
        sentencepiece.SentencePieceTrainer.train(
            input=corpus, model_prefix=prefix, vocab_size=8000, model_type="unigram", normalization_rule_name="nmt_nfkc",
            character_coverage=0.98, **special,
        )
        made[kind] = unigram(prefix, f"{prefix}.model", converter)
    return made


class Slow:
    """As much of a slow tokenizer as a converter asks for."""

    def __init__(self, path, deberta):
        self.vocab_file, self.do_lower_case, self.split_by_punct, self.add_prefix_space = path, False, False, True
        self.special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"] if deberta else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

    def convert_tokens_to_ids(self, token):
        return self.special.index(token) if token in self.special[:4] else len(self.special)


def unigram(folder, model, converter):
    deberta = converter is DebertaV2Converter
    tokenizer = converter(Slow(model, deberta)).converted()
    os.makedirs(folder)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    cls, sep, unk, pad, mask = ("[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]") if deberta else ("<s>", "</s>", "<unk>", "<pad>", "<mask>")
    config = dict(tokenizer_class="PreTrainedTokenizerFast", cls_token=cls, sep_token=sep, unk_token=unk, pad_token=pad, mask_token=mask)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    return folder


def compare(server, folder, made):
    # transformers takes an empty second text for none, but only where texts are not in a list.
    rows = [[text] if i % 3 or not made[-1 - i] else [text, made[-1 - i]] for i, text in enumerate(made)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    found = subprocess.run([server, folder], input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    different = 0
    for row, ids in zip(rows, found, strict=True):
        expected = tokenizer(*row, split_special_tokens=True)["input_ids"]
        if json.loads(ids) != expected:
            different += 1
            if different <= 3:
                print(f"  {row!r}\n  {ids}\n  {expected}")
    return different


def main():
    server, *folders = sys.argv[1:]
    made = texts()
    with tempfile.TemporaryDirectory() as scratch:
        kinds = {os.path.basename(folder.rstrip("/")): folder for folder in folders} | trained(scratch, made[: TEXTS // 5])
        print(f"transformers {transformers.__version__}, {TEXTS:,} texts, every third a pair")
        worst = 0
        for kind, folder in kinds.items():
            different = compare(server, folder, made)
            print(f"{kind}: {different} differences", flush=True)
            worst = max(worst, different)
    sys.exit(worst > 0)


if __name__ == "__main__":
    main()
