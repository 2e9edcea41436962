"""Makes features.json of models/tests/features.rs: mean-pooled last hidden states by transformers, of the inputs in golden.safetensors.

    python make_features.py        after make_golden.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel

HERE = Path(__file__).parent

for kind in ["bert", "distilbert"]:
    golden = load_file(HERE / kind / "golden.safetensors")
    model = AutoModel.from_pretrained(HERE / kind).float().eval()
    ends = golden["cu_seqlens"].tolist()
    features = []
    for start, end in zip(ends, ends[1:]):
        inputs = dict(input_ids=golden["input_ids"][None, start:end])
        if kind == "bert":
            inputs["token_type_ids"] = golden["token_type_ids"][None, start:end]
        with torch.no_grad():
            features += model(**inputs).last_hidden_state[0].mean(0).tolist()
    (HERE / kind / "features.json").write_text(json.dumps(features) + "\n")
