"""Makes pairs.safetensors of models/tests/pairs.rs with PyTorch and transformers: contrastive training on the inputs in golden.safetensors.

    python make_pairs.py           after make_golden.py

Pairs of rows and their similarities, the loss, some gradients, and losses, norms and word embeddings of three AdamW steps. The embedding of
a row is sentence-transformers' mean pooling, the loss its CosineSimilarityLoss, both written out. Needs torch, transformers and safetensors.
"""

from pathlib import Path

import torch
from make_golden import LENGTHS, LR, MAX_GRAD_NORM, TOTAL_STEPS, WARMUP_STEPS, WEIGHT_DECAY, pad
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

PAIRS, SIMILARITIES = [(0, 1), (2, 0), (3, 2), (1, 2)], [1.0, 0.0, -0.5, 0.25]
# A few gradients of each kind.
COMPARED = ["word_embeddings", "query", "q_lin", "value", "v_lin", "LayerNorm", "layer_norm"]
HERE = Path(__file__).parent


def main(kind):
    golden = load_file(HERE / kind / "golden.safetensors")
    model = AutoModelForSequenceClassification.from_pretrained(HERE / kind).float().train()
    mask = pad([torch.ones(n) for n in LENGTHS])
    inputs = dict(input_ids=pad(golden["input_ids"].split(LENGTHS)), attention_mask=mask)
    if kind == "bert":
        inputs["token_type_ids"] = pad(golden["token_type_ids"].split(LENGTHS))
    pairs, similarities = torch.tensor(PAIRS), torch.tensor(SIMILARITIES)

    def loss_of():
        last = model.base_model(**inputs).last_hidden_state
        embeddings = (last * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        cosines = torch.cosine_similarity(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
        return torch.nn.functional.mse_loss(cosines, similarities)

    loss = loss_of()
    loss.backward()
    found = dict(pairs=pairs, similarities=similarities, loss=loss.detach())
    encoder = {name: parameter for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any("pooler" in name or "classifier" in name for name in encoder)
    for name, parameter in encoder.items():
        if any(part in name for part in COMPARED):
            found["gradient." + name] = parameter.grad.clone()

    decays = [p for p in encoder.values() if p.dim() > 1]
    others = [p for p in encoder.values() if p.dim() == 1]
    groups = [dict(params=decays, weight_decay=WEIGHT_DECAY), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP_STEPS, TOTAL_STEPS)
    norms, losses = [], []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        losses.append(loss.detach())
        norms.append(torch.nn.utils.clip_grad_norm_(encoder.values(), MAX_GRAD_NORM))
        optimizer.step()
        schedule.step()
    found |= {"step.losses": torch.stack(losses), "step.norms": torch.stack(norms)}
    found["after"] = model.base_model.embeddings.word_embeddings.weight.data.clone()
    save_file({k: v.contiguous() for k, v in found.items()}, HERE / kind / "pairs.safetensors")
    print(kind, losses, norms)


for kind in ["bert", "distilbert"]:
    main(kind)
