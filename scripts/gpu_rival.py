"""Measures llama.cpp's server on a GPU, with the back-end library that lacuna uses, and prints one line of JSON.

    gpu_rival.py MODEL.gguf --prompts prompts.txt --slots 64 --backend libggml-cuda.so

The server is the one in the PyPI package xllamacpp 2026.10.11549, which is built for CPUs but loads a library of the same ggml. Twice as
many clients as slots send the prompts over HTTP, so that a request always waits; each text has --tokens tokens, drawn with top-k 40, for
which llama.cpp's own sampler is fast. --questions asks that many prompts for the probabilities of the next token instead of a text.
Everything that no option sets is the server's default: continuous batching and the prompt cache are on, streams and sampling on the host.
"""

import argparse
import ctypes
import http.client
import itertools
import json
import os
import sys
import threading
import time
import urllib.parse

# A back-end library finds ggml's functions in the package's own.
sys.setdlopenflags(os.RTLD_GLOBAL | os.RTLD_NOW)
import xllamacpp


def load_backend(path):
    package = ctypes.CDLL(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp.abi3.so"), mode=os.RTLD_GLOBAL)
    package.ggml_backend_load.restype = ctypes.c_void_p
    package.ggml_backend_load.argtypes = [ctypes.c_char_p]
    if not package.ggml_backend_load(os.path.abspath(path).encode()):
        sys.exit(f"{path}: xllamacpp {xllamacpp.__version__} cannot load it; it belongs to another version of ggml")


def start(args):
    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_parallel = args.slots
    params.n_ctx = args.slots * args.context
    params.n_gpu_layers = args.gpu_layers
    params.kv_unified = args.unified
    params.sampling.backend_sampling = args.backend_sampling
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    # A kept-alive connection occupies a thread of the server.
    params.n_threads_http = 2 * args.slots + 8
    params.warmup = True
    return xllamacpp.Server(params)


def chat(text):
    """A prompt in the chat template of synthetic_gguf.py."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def text_body(args, prompt, tokens, seed, greedy=False):
    body = {"prompt": prompt, "n_predict": tokens, "seed": seed, "ignore_eos": True, "cache_prompt": True}
    body |= {"backend_sampling": args.backend_sampling}
    if greedy:
        return body | {"temperature": 0.0}
    return body | {"samplers": ["top_k", "temperature"], "top_k": 40, "temperature": 1.0}


def question_body(prompt):
    return {"prompt": prompt, "n_predict": 1, "n_probs": 20, "temperature": 0.0, "cache_prompt": True}


def serve(address, clients, bodies):
    """The answers to all bodies, and the seconds that they took."""
    answers, numbers, lock = [None] * len(bodies), itertools.count(), threading.Lock()
    data = [json.dumps(body) for body in bodies]
    place = urllib.parse.urlsplit(address)

    def client():
        connection = http.client.HTTPConnection(place.hostname, place.port)
        while True:
            with lock:
                number = next(numbers)
            if number >= len(bodies):
                return
            connection.request("POST", "/completion", data[number], {"Content-Type": "application/json"})
            answers[number] = json.loads(connection.getresponse().read())

    begun = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(min(clients, len(bodies)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    failed = next((answer for answer in answers if not answer or "tokens_predicted" not in answer), "")
    if failed != "":
        sys.exit(f"the server answered {failed}")
    return answers, seconds


def measure(args, address, prompts):
    clients = 2 * args.slots
    total = lambda answers, field: sum(answer[field] for answer in answers)
    result = {"side": "llama-server", "version": xllamacpp.__version__, "model": os.path.basename(args.model), "slots": args.slots}
    result |= {"layout": "unified" if args.unified else "streams", "gpu_layers": args.gpu_layers, "texts": args.texts}
    result |= {"logits": "in place" if args.backend_sampling else "copied"}
    # Prompts from the end: the prompt cache must not know those that are timed.
    serve(address, clients, [text_body(args, prompts[-1 - i % len(prompts)], 8, i) for i in range(args.slots)])
    if args.texts:
        bodies = [text_body(args, prompts[i % len(prompts)], args.tokens, i) for i in range(args.texts)]
        answers, seconds = serve(address, clients, bodies)
        tokens = total(answers, "tokens_predicted")
        result |= {"seconds": seconds, "new_tokens": tokens, "prompt_tokens": total(answers, "tokens_evaluated")}
        result |= {"prefilled_tokens": sum(answer["timings"]["prompt_n"] for answer in answers)}
        result |= {"tokens_per_second": tokens / seconds, "texts_per_second": len(bodies) / seconds}
    if args.questions:
        # Words that no earlier prompt had, so that the prompt cache does not know the answers.
        bodies = [question_body(prompts[i % len(prompts)].replace("user\n", "user\n?")) for i in range(args.questions)]
        answers, seconds = serve(address, clients, bodies)
        result |= {"questions": len(bodies), "questions_per_second": len(bodies) / seconds}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True, help="a file with one prompt a line")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--backend", help="a libggml-*.so to load")
    parser.add_argument("--gpu-layers", type=int, default=99)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--questions", type=int, default=0)
    parser.add_argument("--context", type=int, default=512, help="the context of one slot")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--unified", action="store_true", help="one KV cache for all slots")
    parser.add_argument("--backend-sampling", action="store_true", help="the sampler runs where the logits are, as far as it can")
    parser.add_argument("--greedy", action="store_true", help="only print the greedy text of the first prompt")
    args = parser.parse_args()

    if args.backend:
        load_backend(args.backend)
    with open(args.prompts) as file:
        prompts = [chat(line.rstrip("\n")) for line in file]
    server = start(args)
    address = server.listening_address
    if args.greedy:
        answers, _ = serve(address, 1, [text_body(args, prompts[0], args.tokens, 0, greedy=True)])
        print(json.dumps({"side": "llama-server", "text": answers[0]["content"]}), flush=True)
    else:
        print(json.dumps(measure(args, address, prompts)), flush=True)
    # The server's threads have nothing to finish.
    os._exit(0)


if __name__ == "__main__":
    main()
