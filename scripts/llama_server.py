"""Starts llama.cpp's own server from the PyPI package xllamacpp, prints its address, and runs until standard input ends.

    llama_server.py MODEL.gguf --slots 16 --threads 2 --context 512

`--context` is what one slot has. Everything else is the server's default: continuous batching and the prompt cache are on.
"""

import argparse
import sys

import xllamacpp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_parallel = args.slots
    params.n_ctx = args.slots * args.context
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    # A kept-alive connection holds a thread of the server: enough for every client.
    params.n_threads_http = 2 * args.slots + 8
    params.n_gpu_layers = 0
    params.warmup = True
    server = xllamacpp.Server(params)
    print(xllamacpp.__version__, server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
