"""Starts llama.cpp's own server, prints its version and address, and runs until standard input ends.

    llama_server.py MODEL.gguf --slots 16 --threads 2 --context 512

The server is the one in the PyPI package xllamacpp, or the llama-server that --binary names. `--context` is the context of one slot.
Everything else is the server's default: continuous batching and the prompt cache are on.
"""

import argparse
import socket
import subprocess
import sys
import time
import urllib.request


def packaged(args):
    """Starts xllamacpp's server in this process; returns its version, its address and the object that keeps it alive."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_parallel = args.slots
    params.n_ctx = args.slots * args.context
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    params.n_threads_http = http_threads(args)
    params.n_gpu_layers = 0
    params.warmup = True
    server = xllamacpp.Server(params)
    return xllamacpp.__version__, server.listening_address, server


def http_threads(args):
    """Enough for every client: a kept-alive connection occupies a thread of the server."""
    return 2 * args.slots + 8


def built(args):
    """Starts a llama-server as a child process; returns its version, its address and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = {"-np": args.slots, "-c": args.slots * args.context, "-t": args.threads, "-tb": args.threads}
    numbers |= {"--port": port, "--threads-http": http_threads(args)}
    command = [args.binary, "-m", args.model] + [word for name, number in numbers.items() for word in (name, str(number))]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health")
            return "native", address, process
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{args.binary} ended with {process.returncode}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--binary", help="a llama-server to start instead of the package's")
    args = parser.parse_args()

    version, address, server = built(args) if args.binary else packaged(args)
    print(version, address, flush=True)
    sys.stdin.read()
    if args.binary:
        server.terminate()


if __name__ == "__main__":
    main()
