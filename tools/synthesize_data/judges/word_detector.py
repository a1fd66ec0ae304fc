"""Open-vocabulary detectors of transformers."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from ...common.devices import choose_device, loading
from ...common.errors import ToolError
from ...common.manifest import Failed
from ..config import DetectConfig
from ..text.phrases import key
from .detector import Found

WORD_PACKAGES = ("torch", "transformers")


class WordDetector:
    """GroundingDINO (arXiv:2303.05499) or OWLv2 (arXiv:2306.09683), queried with a name."""

    def __init__(self, config: DetectConfig, device: str):
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.device = choose_device(device)
        with loading("detect.model", config.model):
            self.processor: Any = AutoProcessor.from_pretrained(config.model, backend="pil")
            network: Any = AutoModelForZeroShotObjectDetection.from_pretrained(config.model)
            self.model = network.to(self.device).eval()
        kind = self.model.config.model_type
        self.owl = kind.startswith("owl")
        if self.owl != (config.backend == "owlv2"):
            raise ToolError(f"detect.backend is {config.backend}, but detect.model {config.model} is {kind}")

    def __call__(self, images: Sequence[Image.Image], names: Sequence[str]) -> list[Found | Failed]:
        import torch

        texts = [[query(name)] for name in names]
        # OWL's processor pads all names to the length that OWL reads.
        length = {} if self.owl else {"padding": True, "max_length": self.model.config.max_text_len}
        inputs = self.processor(
            images=list(images), text=texts, truncation=True, return_tensors="pt", **length
        )
        with torch.inference_mode():
            outputs = self.model(**inputs.to(self.device))
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=sizes
        )
        return [best_box(each) for each in found]


def query(name: str) -> str:
    """A name as detectors expect it: lower case, without the full stops that end GroundingDINO's phrases."""
    return key(name).replace(".", " ")


def best_box(found: dict[str, Any]) -> Found:
    """The box with the highest score, whatever that is: the verdict applies the threshold."""
    if not len(found["scores"]):
        return Found(None, 0.0)
    at = int(found["scores"].argmax())
    x0, y0, x1, y1 = (round(edge) for edge in found["boxes"][at].tolist())
    return Found((x0, y0, x1, y1), float(found["scores"][at]))
