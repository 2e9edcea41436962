"""Makes the golden values of models/tests/golden.rs with PyTorch and transformers.

    python make_golden.py [KIND...]

writes, for a tiny random model of each kind, a checkpoint folder (model.safetensors, config.json) and golden.safetensors:
packed inputs, logits, loss with soft targets and row weights, the gradient of every parameter, and some parameters after three
AdamW steps with linear warm-up and decay. Dropout is off. Needs torch, transformers and safetensors.
"""

import copy
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForQuestionAnswering,
    MPNetForSequenceClassification,
    ModernBertConfig,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    get_linear_schedule_with_warmup,
)

VOCAB, LENGTHS, LABELS = 40, [5, 1, 9, 3], 3
LR, WEIGHT_DECAY, TOTAL_STEPS, WARMUP_STEPS, MAX_GRAD_NORM = 1e-2, 0.1, 5, 1, 0.5
# A few parameters of each kind after the steps; the logits then show the others.
AFTER = ["word_embeddings", "layer.0.attention.self.query", "layer.0.attention.q_lin", "query_proj", "rel_embeddings", "relative_attention_bias", "embeddings_project",
         "tok_embeddings", "layers.0.attn.Wqkv", "norm", "LayerNorm", "layer_norm", "classifier"]
HERE = Path(__file__).parent
# The type in which the weights of a kind are saved.
SAVED = dict(bert=torch.float16, bert_several=torch.float32, electra_several=torch.float32, distilbert=torch.bfloat16, roberta=torch.float32, mpnet=torch.float32, electra=torch.float32, modernbert=torch.float32,
             modernbert_means=torch.float32, modernbert_local=torch.float32, deberta=torch.float32)
# Kinds that read token types, and those whose padding is token 1, behind whose position theirs begin.
TYPED, PADDED_BY_1 = ("bert", "electra"), ("roberta", "mpnet")


def make_model(kind, span=False):
    labels = {} if span else dict(num_labels=LABELS)
    if kind.endswith("_several"):
        # Several labels a text: transformers takes a loss of its own for it.
        labels["problem_type"] = "multi_label_classification"
        kind = kind.removesuffix("_several")
    if kind == "bert":
        config = BertConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **labels,
        )
        return (BertForQuestionAnswering if span else BertForSequenceClassification)(config)
    if kind == "roberta":
        # Positions begin behind the padding's.
        config = RobertaConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, type_vocab_size=1,
            max_position_embeddings=14, pad_token_id=1, layer_norm_eps=1e-5, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, **labels,
        )
        return (RobertaForQuestionAnswering if span else RobertaForSequenceClassification)(config)
    if kind == "mpnet":
        config = MPNetConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=14, pad_token_id=1, layer_norm_eps=1e-5,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **labels,
        )
        return (MPNetForQuestionAnswering if span else MPNetForSequenceClassification)(config)
    if kind.startswith("modernbert"):
        # Layers attend to all, to neighbours, to neighbours, to all: a window of one token on either side.
        pooling, layers = "mean" if kind.endswith("means") else "cls", 3 if kind.endswith("local") else 4
        config = ModernBertConfig(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=48, local_attention=2,
            max_position_embeddings=12, pad_token_id=0, bos_token_id=None, eos_token_id=None, cls_token_id=1, sep_token_id=2,
            classifier_pooling=pooling, attn_implementation="eager", **labels,
        )
        return (ModernBertForQuestionAnswering if span else ModernBertForSequenceClassification)(config)
    if kind == "deberta":
        # Distances from 3 on share buckets.
        config = DebertaV2Config(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, relative_attention=True,
            position_buckets=4, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
            **labels,
        )
        return (DebertaV2ForQuestionAnswering if span else DebertaV2ForSequenceClassification)(config)
    if kind == "electra":
        # The embeddings are narrower than the hidden states.
        config = ElectraConfig(
            vocab_size=VOCAB, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **labels,
        )
        return (ElectraForQuestionAnswering if span else ElectraForSequenceClassification)(config)
    config = DistilBertConfig(
        vocab_size=VOCAB, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=12,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, qa_dropout=0.0, **labels,
    )
    return (DistilBertForQuestionAnswering if span else DistilBertForSequenceClassification)(config)


def randomise(model, dtype):
    """Larger weights than the initialisation's, so that every gradient is well above rounding; exact in `dtype`."""
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.25)
    for name, parameter in model.named_parameters():
        if "orm.weight" in name:
            parameter.data.add_(1.0)
        parameter.data = parameter.data.to(dtype).float()


def pad(rows, value=0):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def make_inputs(kind):
    """Token ids, of which none is the padding, and token types."""
    first = 2 if kind in PADDED_BY_1 else 1
    input_ids = [torch.randint(first, VOCAB, (n,)) for n in LENGTHS]
    return input_ids, [(torch.arange(n) > n // 2).long() * (kind not in PADDED_BY_1) for n in LENGTHS]


def main(kind, dtype):
    torch.manual_seed(1)
    model = make_model(kind)
    randomise(model, dtype)
    model.train()
    folder = HERE / kind
    copy.deepcopy(model).to(dtype).save_pretrained(folder)

    input_ids, token_type_ids = make_inputs(kind)
    targets = torch.rand(len(LENGTHS), LABELS)
    several = kind.endswith("_several")
    if several:
        targets[0], targets[1] = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 0.0])
    else:
        targets /= targets.sum(1, keepdim=True)
    weights = torch.tensor([1.0, 0.5, 2.0, 1.5])
    inputs = dict(input_ids=pad(input_ids, value=int(kind in PADDED_BY_1)), attention_mask=pad([torch.ones(n) for n in LENGTHS]))
    if kind.split("_")[0] in TYPED:
        inputs["token_type_ids"] = pad(token_type_ids)

    def losses_of(logits):
        if several:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    def loss_of():
        logits = model(**inputs).logits
        return logits, (weights * losses_of(logits)).mean()

    logits, loss = loss_of()
    loss.backward()
    golden = dict(
        input_ids=torch.cat(input_ids), token_type_ids=torch.cat(token_type_ids), targets=targets, weights=weights,
        cu_seqlens=torch.tensor([0] + LENGTHS).cumsum(0), logits=logits.detach(), loss=loss.detach(),
    )
    if several:
        # With weights of 1 it is the loss that transformers itself takes for such a model.
        assert torch.isclose(losses_of(logits).mean(), model(**inputs, labels=targets).loss)
    for name, parameter in model.named_parameters():
        golden["gradient." + name] = parameter.grad.clone()

    decays = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [dict(params=decays, weight_decay=WEIGHT_DECAY), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP_STEPS, TOTAL_STEPS)
    norms, losses = [], []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of()[1]
        loss.backward()
        losses.append(loss.detach())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM))
        optimizer.step()
        schedule.step()
    golden |= {"step.losses": torch.stack(losses), "step.norms": torch.stack(norms), "step.logits": loss_of()[0].detach()}
    for name, parameter in model.named_parameters():
        if any(part in name for part in AFTER):
            golden["after." + name] = parameter.data.clone()
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")


def main_span(kind):
    """For a span head: rows one by one, so that no padding takes part in the softmax over a row's tokens."""
    torch.manual_seed(2)
    model = make_model(kind, span=True)
    randomise(model, torch.float32)
    model.train()
    folder = HERE / f"{kind}_span"
    model.save_pretrained(folder)

    input_ids, token_type_ids = make_inputs(kind)
    spans = [(1, 3), (0, 0), (4, 8), (2, 2)]
    logits, losses = [], []
    for ids, types, (start, end) in zip(input_ids, token_type_ids, spans):
        inputs = dict(input_ids=ids[None], start_positions=torch.tensor([start]), end_positions=torch.tensor([end]))
        if kind in TYPED:
            inputs["token_type_ids"] = types[None]
        output = model(**inputs)
        logits.append(torch.stack([output.start_logits[0], output.end_logits[0]], dim=1))
        losses.append(output.loss)
    loss = torch.stack(losses).mean()
    loss.backward()
    golden = dict(
        input_ids=torch.cat(input_ids), token_type_ids=torch.cat(token_type_ids), spans=torch.tensor(spans),
        cu_seqlens=torch.tensor([0] + LENGTHS).cumsum(0), logits=torch.cat(logits).detach(), loss=loss.detach(),
    )
    for name, parameter in model.named_parameters():
        golden["gradient." + name] = parameter.grad.clone()
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")


if __name__ == "__main__":
    for kind in sys.argv[1:] or SAVED:
        main(kind, SAVED[kind])
        if "_" not in kind:
            main_span(kind)
