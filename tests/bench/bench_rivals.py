"""The other sides of `bench.py`, in an interpreter with their packages: a line of JSON in, one out.

A first question names the work and prepares it; each `{"run": true}` after it runs the work once
and answers with the seconds. This file must run without lttlib, and in older versions of Python.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

CHANNELS, CLASSES = 39, 29


def step(filters, widths, strides, separable, bfloat16, batch, frames, characters):
    """A training step of PyTorch, with what makes it fast on a processor.

    That is channels last, two-dimensional convolutions of height 1, and bfloat16 autocast where the
    processor computes with it: elsewhere it is emulated, and ten times slower.
    """
    import torch
    from torch import nn

    # The network and its optimizer.
    torch.manual_seed(0)
    layers, channels = [], CHANNELS
    for size, width, stride in zip(filters, widths, strides):  # noqa: B905
        splits = separable and bool(layers) and width > 1
        layers.append(torch_layer(channels, size, width, stride, splits))
        channels = size
    output = nn.Conv2d(channels, CLASSES, 1)
    network = nn.Sequential(*layers, output).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    ctc = nn.CTCLoss(blank=CLASSES - 1, reduction="sum")

    # features [batch, channels, 1, frames], labels [batch, characters]
    x = torch.randn(batch, CHANNELS, 1, frames).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES - 1, (batch, characters))
    label_lengths = torch.full((batch,), characters)

    def run():
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits = network(x)
        # [frames, batch, classes]
        log_probabilities = logits[:, :, 0].float().permute(2, 0, 1).log_softmax(-1)
        lengths = torch.full((batch,), len(log_probabilities))
        loss = ctc(log_probabilities, labels, lengths, label_lengths) / batch
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        loss.item()

    precision = "bfloat16" if bfloat16 else "float32"
    return run, {"name": f"PyTorch {torch.__version__}, {precision}, channels last"}


def torch_layer(inputs, outputs, width, stride, separable):
    """A convolution over time with "same" padding, batch norm and its activation.

    Separable it has a part for each channel alone, one over the channels, and where that is
    possible its input is added.
    """
    from torch import nn

    before = (width - 1) // 2
    after = width - 1 - before
    filters, groups = (inputs, inputs) if separable else (outputs, 1)
    size = {"kernel_size": (1, width), "stride": (1, stride), "groups": groups}
    layers = []
    if before == after:
        layers.append(nn.Conv2d(inputs, filters, padding=(0, before), **size))
    else:
        layers.append(nn.ZeroPad2d((before, after, 0, 0)))
        layers.append(nn.Conv2d(inputs, filters, **size))
    if separable:
        layers.append(nn.Conv2d(inputs, outputs, 1))
    layers.append(nn.BatchNorm2d(outputs))
    if not (separable and stride == 1 and inputs == outputs):
        return nn.Sequential(*layers, nn.ReLU() if separable else nn.ELU())
    return residual(nn.Sequential(*layers))


def residual(layers):
    """Layers whose input is added to their output, then ReLU."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers

        def forward(self, x):
            return nn.functional.relu(x + self.layers(x))

    return Residual()


def search(logits, arpa, words, alphabet, beam_width, lm_weight, word_score, threshold):
    """The beam search of pyctcdecode, in Python, with KenLM."""
    import kenlm  # noqa: F401  pyctcdecode does without it, and then without the language model
    import numpy as np
    from pyctcdecode import build_ctcdecoder

    characters = [*alphabet, ""]  # the last is the blank
    decoder = build_ctcdecoder(characters, arpa, unigrams=words, alpha=lm_weight, beta=word_score)
    arrays = np.load(logits)
    utterances = [arrays[name] for name in arrays.files]
    options = {"beam_width": beam_width, "beam_prune_logp": -threshold}

    def run():
        return [decoder.decode(utterance, **options) for utterance in utterances]

    return run, {"texts": run()}


def inference(form, folder, frames, filters, widths, strides):
    """onnxruntime on one thread; batch norm is in the kernels, as in the file of lttlib."""
    import numpy as np
    import onnxruntime

    random = np.random.default_rng(0)
    path = Path(folder) / "float32.onnx"
    write_onnx(path, random, frames, [*zip(filters, widths, strides)])  # noqa: B905
    features = random.normal(size=(5, 1, CHANNELS, frames)).astype(np.float32)
    if form == "int8":
        path = quantize_onnx(path, features[1:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run():
        session.run(None, {"features": features[0]})

    return run, {"bytes": path.stat().st_size}


def write_onnx(path, random, frames, sizes):
    """Write a network of random kernels; sizes are (filters, width, stride) of each layer."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    # A convolution and an activation per layer, their weights beside them.
    nodes, weights = [], []
    x, channels = "features", CHANNELS
    for index, (filters, width, stride) in enumerate([*sizes, (CLASSES, 1, 1)]):
        is_output = index == len(sizes)
        y = "logits" if is_output else f"conv{index}"
        kernel = random.normal(size=(filters, channels, width)) * (2 / (channels * width)) ** 0.5
        bias = np.zeros(filters, np.float32)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"kernel{index}"))
        weights.append(numpy_helper.from_array(bias, f"bias{index}"))
        before = (width - 1) // 2
        options = {
            "kernel_shape": [width],
            "strides": [stride],
            "pads": [before, width - 1 - before],
        }
        inputs = [x, f"kernel{index}", f"bias{index}"]
        nodes.append(helper.make_node("Conv", inputs, [y], **options))
        if not is_output:
            nodes.append(helper.make_node("Elu", [y], [f"elu{index}"]))
        x, channels = f"elu{index}", filters

    # The graph, from features [1, channels, frames] to logits.
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, CHANNELS, frames])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, None])
    graph = helper.make_graph(nodes, "network", [features], [logits], weights)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def quantize_onnx(path, utterances):
    """Return the file of the network in int8, with scales that fit some features."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Features(CalibrationDataReader):
        def __init__(self):
            self.inputs = ({"features": features} for features in utterances)

        def get_next(self):
            return next(self.inputs, None)

    quantized = path.with_name("int8.onnx")
    quantize_static(path, quantized, Features())
    return quantized


def versions():
    """The versions of the packages that are here; None for one that is not."""
    packages = {}
    for name in ("torch", "pyctcdecode", "kenlm", "onnxruntime", "numpy"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return None, packages


WORK = {"step": step, "search": search, "inference": inference, "versions": versions}


def serve():
    """Answer questions until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    run = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "run" in question:
                answer = {"seconds": timed(run)}
            else:
                run, answer = WORK[question.pop("work")](**question)
        except ImportError as error:
            python = Path(sys.executable).name
            answer = {"failed": f"{error.name or error} is not installed beside {python}"}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def timed(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    serve()
