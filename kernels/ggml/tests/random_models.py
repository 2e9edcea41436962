"""Writes small models of several architectures with random weights, for `tests/model.rs`.

    pip install gguf
    python kernels/ggml/tests/random_models.py SmolLM2.gguf FOLDER
    for model in FOLDER/*.gguf; do LACUNA_TEST_GGUF=$model cargo test --release -p lacuna-ggml-kernels --test model; done

The tokenizer is that of the first model. What our kernels do not support (experts, soft caps) shows that ggml's take over.
"""

import sys

import gguf
import numpy as np

EMBD, FF, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 512, 1024, 4, 8, 2, 64


def main(tokenizer: str, folder: str) -> None:
    reader = gguf.GGUFReader(tokenizer)
    kinds = gguf.GGMLQuantizationType
    write(reader, f"{folder}/qwen2.gguf", "qwen2", kinds.Q4_0, biases=True)
    write(reader, f"{folder}/llama-q8.gguf", "llama", kinds.Q8_0)
    write(reader, f"{folder}/llama-f16.gguf", "llama", kinds.F16)
    write(reader, f"{folder}/llama-experts.gguf", "llama", kinds.Q4_0, experts=4)
    write(reader, f"{folder}/phi3.gguf", "phi3", kinds.Q4_1, fused=True, window=64)
    write(reader, f"{folder}/gemma2.gguf", "gemma2", kinds.Q5_0, softcap=True, window=64)


def write(reader, path, arch, kind, biases=False, experts=0, fused=False, window=0, softcap=False) -> None:
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, arch)
    vocab = copy_tokenizer(reader, writer)
    writer.add_context_length(4096)
    writer.add_embedding_length(EMBD)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    if window:
        writer.add_sliding_window(window)
    if softcap:
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)

    def matrix(name, *shape):
        weights = random.standard_normal(shape, dtype=np.float32) * (1.5 / shape[-1] ** 0.5)
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def vector(name, n, value):
        writer.add_tensor(name, (value + 0.1 * random.standard_normal(n)).astype(np.float32))

    matrix("token_embd.weight", vocab, EMBD)
    vector("output_norm.weight", EMBD, 1.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        vector(block + "attn_norm.weight", EMBD, 1.0)
        vector(block + "ffn_norm.weight", EMBD, 1.0)
        if softcap:
            vector(block + "post_attention_norm.weight", EMBD, 1.0)
            vector(block + "post_ffw_norm.weight", EMBD, 1.0)
        q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
        if fused:
            matrix(block + "attn_qkv.weight", q + 2 * kv, EMBD)
        else:
            for name, rows in [("q", q), ("k", kv), ("v", kv)]:
                matrix(f"{block}attn_{name}.weight", rows, EMBD)
                if biases:
                    vector(f"{block}attn_{name}.bias", rows, 0.0)
        matrix(block + "attn_output.weight", EMBD, q)
        if experts:
            matrix(block + "ffn_gate_inp.weight", experts, EMBD)
            matrix(block + "ffn_gate_exps.weight", experts, FF, EMBD)
            matrix(block + "ffn_up_exps.weight", experts, FF, EMBD)
            matrix(block + "ffn_down_exps.weight", experts, EMBD, FF)
        else:
            if fused:
                matrix(block + "ffn_up.weight", 2 * FF, EMBD)
            else:
                matrix(block + "ffn_gate.weight", FF, EMBD)
                matrix(block + "ffn_up.weight", FF, EMBD)
            matrix(block + "ffn_down.weight", EMBD, FF)
    if arch in ("phi3", "llama"):
        matrix("output.weight", vocab, EMBD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_tokenizer(reader, writer) -> int:
    """Copies the vocabulary; returns its size."""
    for field in reader.fields.values():
        if not field.name.startswith("tokenizer.") or field.name.endswith("chat_template"):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    return len(reader.fields["tokenizer.ggml.tokens"].data)


if __name__ == "__main__":
    main(*sys.argv[1:])
