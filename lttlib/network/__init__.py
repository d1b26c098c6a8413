"""What the course is about: networks, CTC, distillation losses, quantizers. It knows no file."""

from lttlib.network.batch_norm import BatchNorm
from lttlib.network.convnet import (
    ACTIVATIONS,
    CONVS,
    ConvBlock,
    ConvNet,
    ConvSpec,
    copy_layers,
    guided_layers,
    named_variables,
    output_lengths,
    receptive_field,
)
from lttlib.network.ctc import ctc_loss
from lttlib.network.distribution import barrier, distribution_strategy, is_chief
from lttlib.network.losses import FRAME_SELECTIONS, distillation_loss, frame_mask, hint_loss
from lttlib.network.quantization import (
    LearnedQuantizer,
    QuantizedTensor,
    Quantizer,
    dequantize,
    fitted_levels,
    quantize,
    quantize_kernels,
    quantize_uniform,
    uniform_levels,
)
