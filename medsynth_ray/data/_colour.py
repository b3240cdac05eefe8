"""Any colour space of a decoded image to gray or sRGB. What cannot be done exactly is said in a remark."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageCms

from medsynth_ray.data._refused import Refused, Remarks

_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_BACKGROUND = (0, 0, 0, 255)


def to_gray_or_rgb(image: Image.Image, remarks: Remarks) -> Image.Image:
    """The image in mode L or RGB; adds to `remarks`.

    Raises:
        Refused: a colour space that cannot be converted.
    """
    if image.mode in _ALPHA or "transparency" in image.info:
        return _on_background(image, remarks)
    if image.mode in ("L", "1"):
        return image.convert("L")
    if image.mode == "P":
        remarks.append(("palette", "palette colours written out"))
        return image.convert("RGB")
    if image.mode in ("RGB", "CMYK"):
        return _by_profile(image, remarks)
    try:
        converted = image.convert("RGB")
    except ValueError as error:
        raise Refused("unreadable", f"colour space {image.mode} cannot be converted to RGB") from error
    remarks.append(("colour_space", f"{image.mode} converted to RGB without a colour profile"))
    return converted


def _on_background(image: Image.Image, remarks: Remarks) -> Image.Image:
    if image.mode in ("P", "PA"):
        remarks.append(("palette", "palette colours written out"))
    layer = image.convert("RGBA")
    remarks.append(("transparency", "alpha channel laid on black"))
    return Image.alpha_composite(Image.new("RGBA", layer.size, _BACKGROUND), layer).convert("RGB")


def _by_profile(image: Image.Image, remarks: Remarks) -> Image.Image:
    """RGB or CMYK through its embedded ICC profile to sRGB, if it has one that is not sRGB already."""
    embedded, problem = image.info.get("icc_profile"), "it has none"
    if embedded:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(embedded))
            name = ImageCms.getProfileDescription(profile).strip()
            if image.mode == "RGB" and "srgb" in name.lower():
                return image
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError) as error:
            problem = f"its own cannot be used: {error}"
        else:
            assert converted is not None
            remarks.append(("colour_profile", f"{image.mode} of profile {name!r} converted to sRGB"))
            return converted
    if image.mode == "CMYK" or embedded:
        remarks.append(("colour_space", f"{image.mode} taken without a colour profile ({problem})"))
    return image.convert("RGB")
