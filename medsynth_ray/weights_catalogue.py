"""Weights that components of this package use by default, by name: where their authors publish them.

Hub names and addresses are those of timm and torchvision (a test compares them); licences are what timm's metadata
states. A sha256 stands here only where we know it from elsewhere; otherwise the first `pull` records what it got.
"""

from __future__ import annotations

UNKNOWN_LICENCE = "unknown: check before use"

_TIMM_LICENCE = "apache-2.0 (as timm states it)"


def _timm(tagged: str, note: str) -> dict[str, str]:
    """An entry for `<model>.<tag>` of timm's own repositories."""
    return {"hub": f"timm/{tagged}:model.safetensors", "licence": _TIMM_LICENCE, "note": note}


CATALOGUE: dict[str, dict[str, str]] = {
    "inception_v3_fid": {
        "uri": "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "sha256": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        "licence": UNKNOWN_LICENCE,
        "note": "FID's Inception of 2015-12-05, as TorchScript: for the space inception_v3",
    },
    "inception_v3": _timm("inception_v3.tv_in1k", "classifiers on Inception-v3 features"),
    "inception_resnet_v2": _timm("inception_resnet_v2.tf_in1k", "classifiers on Inception-ResNet-v2 features"),
    "legacy_xception": {
        "uri": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth",
        "licence": _TIMM_LICENCE,
        "note": "classifiers on Xception features (legacy_xception.tf_in1k)",
    },
    "resnet18": _timm("resnet18.a1_in1k", "the classifier resnet"),
    "resnet50": _timm("resnet50.a1_in1k", "the classifier resnet, the space timm_model"),
    "vit_base_patch16_224": _timm("vit_base_patch16_224.augreg2_in21k_ft_in1k", "the classifier vit"),
    "alexnet_imagenet": {
        "uri": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "licence": UNKNOWN_LICENCE,
        "note": "the classifier alexnet (torchvision, IMAGENET1K_V1)",
    },
    "dinov2_vits14": _timm("vit_small_patch14_dinov2.lvd142m", "the space dinov2"),
    "clip_vit_b32": _timm("vit_base_patch32_clip_224.openai", "the space clip: the image tower of ViT-B/32"),
}
