"""The other sides of `bench.py`, in an interpreter with their packages: a line of JSON in, one out.

A first question names the work and prepares it; each `{"run": true}` after it runs it once and tells the seconds.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path


def step(filters, widths, strides, batch, frames, characters):
    """A training step of PyTorch: bfloat16 autocast, channels last, two-dimensional convolutions of height 1."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)

    class Layer(nn.Module):
        def __init__(self, inputs, outputs, width, stride):
            super().__init__()
            left = (width - 1) // 2
            even = stride == 1 and width % 2 == 1
            self.pad = None if even else (left, width - 1 - left)
            self.convolution = nn.Conv2d(
                inputs, outputs, (1, width), (1, stride), padding=(0, left if even else 0)
            )
            self.norm, self.activation = nn.BatchNorm2d(outputs), nn.ELU()

        def forward(self, x):
            x = functional.pad(x, self.pad) if self.pad else x
            return self.activation(self.norm(self.convolution(x)))

    layers, channels = [], 39
    for size, width, stride in zip(filters, widths, strides):  # noqa: B905
        layers.append(Layer(channels, size, width, stride))
        channels = size
    network = nn.Sequential(*layers, nn.Conv2d(channels, 29, 1)).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(batch, 39, 1, frames).to(memory_format=torch.channels_last)
    labels, label_lengths = (
        torch.randint(0, 28, (batch, characters)),
        torch.full((batch,), characters),
    )
    ctc = nn.CTCLoss(blank=28, reduction="sum")
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=True)

    def run():
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x)
        log_probabilities = logits[:, :, 0].float().permute(2, 0, 1).log_softmax(-1)
        lengths = torch.full((batch,), len(log_probabilities))
        loss = ctc(log_probabilities, labels, lengths, label_lengths) / batch
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        loss.item()

    return run, {"told": f"PyTorch {torch.__version__}, bfloat16, channels last"}


def search(logits, arpa, words, alphabet, beam_width, lm_weight, word_score, threshold):
    """The beam search of pyctcdecode, in Python, with KenLM."""
    import kenlm  # noqa: F401  pyctcdecode does without it, and then without the language model
    import numpy as np
    from pyctcdecode import build_ctcdecoder

    decoder = build_ctcdecoder(
        [*alphabet, ""], arpa, unigrams=words, alpha=lm_weight, beta=word_score
    )
    arrays = np.load(logits)
    batch = [arrays[name] for name in arrays.files]

    def run():
        return [
            decoder.decode(one, beam_width=beam_width, beam_prune_logp=-threshold) for one in batch
        ]

    return run, {"texts": run()}


def inference(form, folder, frames, filters, widths, strides):
    """onnxruntime on one thread; batch norm is in the kernels, as it is in the other side's file."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights, x, channels = [], [], "features", 39
    layers = [*zip(filters, widths, strides), (29, 1, 1)]  # noqa: B905
    for number, (size, width, stride) in enumerate(layers):
        left, last = (width - 1) // 2, number == len(layers) - 1
        kernel = random.normal(size=(size, channels, width)) * (2 / (channels * width)) ** 0.5
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"kernel{number}"))
        weights.append(numpy_helper.from_array(np.zeros(size, np.float32), f"bias{number}"))
        y = "logits" if last else f"conv{number}"
        inputs = [x, f"kernel{number}", f"bias{number}"]
        pads = [left, width - 1 - left]
        nodes.append(
            helper.make_node("Conv", inputs, [y], kernel_shape=[width], strides=[stride], pads=pads)
        )
        if not last:
            nodes.append(helper.make_node("Elu", [y], [f"elu{number}"]))
        x, channels = f"elu{number}", size
    shapes = {"features": [1, 39, frames], "logits": [1, 29, None]}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    path = Path(folder) / "float32.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    values = random.normal(size=(5, 1, 39, frames)).astype(np.float32)
    if form == "int8":
        from onnxruntime.quantization import CalibrationDataReader, quantize_static

        class Speech(CalibrationDataReader):
            def __init__(self):
                self.left = iter(values[1:])

            def get_next(self):
                return next(({"features": one} for one in self.left), None)

        quantized = path.with_name("int8.onnx")
        quantize_static(path, quantized, Speech())
        path = quantized
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"features": values[0]}), {"bytes": path.stat().st_size}


def versions():
    """Of the packages that are here."""
    found = {}
    for name in ("torch", "pyctcdecode", "kenlm", "onnxruntime", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return None, found


def serve():
    """Answer questions until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    run = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "run" in question:
                started = time.perf_counter()
                run()
                answer = {"seconds": time.perf_counter() - started}
            else:
                work = {
                    "step": step,
                    "search": search,
                    "inference": inference,
                    "versions": versions,
                }
                run, answer = work[question.pop("work")](**question)
        except ImportError as error:
            answer = {
                "failed": f"{error.name or error} is not installed beside {Path(sys.executable).name}"
            }
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
