"""Writes a small GGUF with random weights for each of some architectures into a folder, those that write and those that do not.

    architectures.py FOLDER          needs numpy and the package gguf

scripts/architectures.sh lets lacuna's tests with a real model run on each.
"""

import os
import sys

import gguf
import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import synthetic_gguf  # its tokenizer and chat template

WIDTH, HEADS, KV, HEAD, FEED, VOCABULARY, CONTEXT = 64, 2, 1, 32, 128, 512, 2048
INNER, STATE, CONV, GROUPS, SSM_HEADS = 128, 16, 4, 1, 8
EXPERTS, USED = 4, 2
KEYS = {
    "context_length": CONTEXT,
    "embedding_length": WIDTH,
    "feed_forward_length": FEED,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "rope.dimension_count": HEAD,
    "rope.freq_base": 10000.0,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "vocab_size": VOCABULARY,
}
SSM = {"ssm.conv_kernel": CONV, "ssm.inner_size": INNER, "ssm.state_size": STATE, "ssm.group_count": GROUPS, "ssm.time_step_rank": SSM_HEADS}
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5}
QKV = [("attn_q", (HEADS * HEAD, WIDTH)), ("attn_k", (KV * HEAD, WIDTH)), ("attn_v", (KV * HEAD, WIDTH))]
OUT = [("attn_output", (WIDTH, HEADS * HEAD))]
NORMS = [("attn_norm", (WIDTH,)), ("ffn_norm", (WIDTH,))]
GATED = [("ffn_gate", (FEED, WIDTH)), ("ffn_up", (FEED, WIDTH)), ("ffn_down", (WIDTH, FEED))]
PLAIN = GATED[1:]
POST = [("post_attention_norm", (WIDTH,)), ("post_ffw_norm", (WIDTH,))]
HEAD_NORMS = [("attn_q_norm", (HEAD,)), ("attn_k_norm", (HEAD,))]
MOE = [
    ("ffn_gate_inp", (EXPERTS, WIDTH)),
    ("ffn_gate_exps", (EXPERTS, FEED, WIDTH)),
    ("ffn_up_exps", (EXPERTS, FEED, WIDTH)),
    ("ffn_down_exps", (EXPERTS, WIDTH, FEED)),
]
MAMBA2 = [
    ("ssm_in", (2 * INNER + 2 * GROUPS * STATE + SSM_HEADS, WIDTH)),
    ("ssm_conv1d", (INNER + 2 * GROUPS * STATE, CONV)),
    ("ssm_conv1d.bias", (INNER + 2 * GROUPS * STATE,)),
    ("ssm_dt.bias", (SSM_HEADS,)),
    ("ssm_a", (SSM_HEADS, 1)),
    ("ssm_d", (SSM_HEADS, 1)),
    ("ssm_norm", (GROUPS, INNER // GROUPS)),
    ("ssm_out", (WIDTH, INNER)),
]
MAMBA = [
    ("ssm_in", (2 * INNER, WIDTH)),
    ("ssm_conv1d", (INNER, CONV)),
    ("ssm_conv1d.bias", (INNER,)),
    ("ssm_x", (SSM_HEADS + 2 * STATE, INNER)),
    ("ssm_dt", (INNER, SSM_HEADS)),
    ("ssm_dt.bias", (INNER,)),
    ("ssm_a", (INNER, STATE)),
    ("ssm_d", (INNER,)),
    ("ssm_out", (WIDTH, INNER)),
]
BASE = NORMS + QKV + OUT + GATED


def with_biases(tensors, names):
    return [one for name, shape in tensors for one in ([(name, shape), (name + ".bias", shape[:1])] if name in names else [(name, shape)])]


ALL_QKV = ["attn_q", "attn_k", "attn_v"]
NORM_NAMES = ["attn_norm", "ffn_norm"]
# name: (architecture, tensors of each layer or of the layers in turn, further keys, further tensors). A name that ends with "!" has no ".weight".
MODELS = {
    "llama": ("llama", [BASE], {}, []),
    "mixtral": ("llama", [NORMS + QKV + OUT + MOE], {"expert_count": EXPERTS, "expert_used_count": USED}, []),
    "smollm3": ("smollm3", [BASE], {}, []),
    "mistral3": ("mistral3", [BASE], {}, []),
    "qwen2": ("qwen2", [with_biases(BASE, ALL_QKV)], {}, []),
    "qwen3": ("qwen3", [BASE + HEAD_NORMS], {}, []),
    "qwen3moe": (
        "qwen3moe",
        [NORMS + QKV + OUT + HEAD_NORMS + MOE],
        {"expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": FEED},
        [],
    ),
    "gemma": ("gemma", [BASE], {}, []),
    "gemma2": (
        "gemma2",
        [BASE + POST],
        {"attention.sliding_window": 32, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        [],
    ),
    "gemma3": ("gemma3", [BASE + POST + HEAD_NORMS], {"attention.sliding_window": 32}, []),
    "phi3-longrope": (
        "phi3",
        [NORMS + [("attn_qkv", ((HEADS + 2 * KV) * HEAD, WIDTH))] + OUT + [("ffn_up", (2 * FEED, WIDTH)), ("ffn_down", (WIDTH, FEED))]],
        {"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.1, "attention.sliding_window": 0},
        [("rope_factors_long", (HEAD // 2,)), ("rope_factors_short", (HEAD // 2,))],
    ),
    "granite": ("granite", [BASE], {"logit_scale": 2.0, "embedding_scale": 1.5, "residual_scale": 0.9, "attention.scale": 0.2}, []),
    "granite-hybrid": (
        "granitehybrid",
        [NORMS + MAMBA2 + GATED, BASE],
        {**SSM, "attention.head_count_kv": [0, KV], "logit_scale": 2.0, "embedding_scale": 1.5, "residual_scale": 0.9, "attention.scale": 0.2},
        [],
    ),
    "falcon-h1": ("falcon-h1", [[(name + "!" if name == "ffn_norm" else name, shape) for name, shape in BASE] + MAMBA2], SSM, []),
    "lfm2": (
        "lfm2",
        [NORMS + [("shortconv.conv", (WIDTH, 3)), ("shortconv.in_proj", (3 * WIDTH, WIDTH)), ("shortconv.out_proj", (WIDTH, WIDTH))] + GATED, BASE + HEAD_NORMS],
        {"shortconv.l_cache": 3, "attention.head_count_kv": [0, KV]},
        [("token_embd_norm", (WIDTH,))],
    ),
    "olmo2": (
        "olmo2",
        [QKV + OUT + GATED + POST + [("attn_q_norm", (HEADS * HEAD,)), ("attn_k_norm", (KV * HEAD,))]],
        {},
        [],
    ),
    "stablelm": ("stablelm", [with_biases(BASE, NORM_NAMES)], {**LAYER_NORM, "use_parallel_residual": False}, [("output_norm.bias", (WIDTH,))]),
    "starcoder2": (
        "starcoder2",
        [with_biases(NORMS + QKV + OUT + PLAIN, NORM_NAMES + ALL_QKV + ["attn_output", "ffn_up", "ffn_down"])],
        LAYER_NORM,
        [("output_norm.bias", (WIDTH,))],
    ),
    "nemotron": ("nemotron", [with_biases(NORMS + QKV + OUT + PLAIN, NORM_NAMES)], LAYER_NORM, [("output_norm.bias", (WIDTH,))]),
    "command-r": ("command-r", [[("attn_norm", (WIDTH,))] + QKV + OUT + GATED], {**LAYER_NORM, "logit_scale": 0.1}, []),
    "exaone": ("exaone", [BASE], {}, []),
    "glm4": (
        "glm4",
        [NORMS + QKV + OUT + POST + [("ffn_up", (2 * FEED, WIDTH)), ("ffn_down", (WIDTH, FEED))]],
        {},
        [],
    ),
    # What is refused.
    "mamba": ("mamba", [[("attn_norm", (WIDTH,))] + MAMBA], {**SSM, "attention.head_count": 0, "attention.head_count_kv": 0}, []),
    "mamba2": ("mamba2", [[("attn_norm", (WIDTH,))] + MAMBA2], {**SSM, "attention.head_count": 0, "attention.head_count_kv": 0}, []),
    "qwen3-embedding": ("qwen3", [BASE + HEAD_NORMS], {"pooling_type": 3}, []),
    "bert": ("bert", [BASE], {"attention.causal": False}, []),
    "t5": ("t5", [BASE], {}, []),
    "llada": ("llada", [BASE], {"attention.causal": False}, []),
    "projector": ("clip", [BASE], {}, []),
}
LAYERS = 4
# These have no output matrix but the embedding.
TIED = ["gemma", "gemma2", "command-r", "lfm2"]


def write(path, architecture, layers, keys, further):
    random = numpy.random.default_rng(5)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**KEYS, "block_count": LAYERS, **keys}.items():
        name = f"{architecture}.{key}"
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}[type(value)]
        add(name, value * (LAYERS // len(value)) if isinstance(value, list) else value)
    texts, types = synthetic_gguf.tokens(VOCABULARY)
    writer.add_name("random weights")
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges(["Ġ y"])
    end = VOCABULARY - len(synthetic_gguf.SPECIAL)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(synthetic_gguf.TEMPLATE)
    tensors = [("token_embd", (VOCABULARY, WIDTH))] + further
    # What is called the embedding's norm there is the last one.
    tensors += [] if architecture == "lfm2" else [("output_norm", (WIDTH,))]
    tensors += [] if architecture in TIED else [("output", (VOCABULARY, WIDTH))]
    for layer in range(LAYERS):
        tensors += [(f"blk.{layer}.{name}", shape) for name, shape in layers[layer % len(layers)]]
    for name, shape in tensors:
        whole = name.rstrip("!") if name.endswith(("bias", "ssm_a", "ssm_d", "!")) else name + ".weight"
        data = random.standard_normal(shape) / max(shape[-1], 2) ** 0.5
        if len(shape) == 1 and not name.endswith("bias") or "norm" in name and not name.endswith("bias"):
            data = 1.0 + 0.1 * data
        if name.endswith("ssm_a"):
            data = -numpy.exp(random.uniform(-2, 1, shape))
        writer.add_tensor(whole, data.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


for name, (architecture, layers, keys, further) in MODELS.items():
    write(os.path.join(sys.argv[1], name + ".gguf"), architecture, layers, keys, further)
    print(name)
