"""Which models were shown the same: what is refused, and what is only remarked."""

import dataclasses
from typing import Any

import pytest

from sslens.errors import InputError
from sslens.fingerprint import (
    Conditions,
    remarks,
    require_comparable,
)
from sslens.plan import Plan

NANO = "random:vit_nano_patch8_32"


def alike(**other: Any) -> tuple[Conditions, Conditions]:
    """Two models that saw the same, but for what is given of the second."""
    one = Conditions(
        name="one",
        ids=("a", "b", "c", "d"),
        images=images(),
        plan={"batch": 4, "seed": 0, "digest": Plan((("a", "b", "c", "d"),)).digest},
        sizes=(4,),
        transform=seen(),
        precision="float32",
        versions={"all": 1},
    )
    return one, dataclasses.replace(one, name="two", **other)


def drawn(batch: int = 4, seed: int | None = 0, digest: str = "other") -> dict[str, Any]:
    return {"batch": batch, "seed": seed, "digest": digest}


def seen(**other: Any) -> dict[str, Any]:
    return {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    } | other


def images(name: str = "photos", content: str = "c1") -> dict[str, Any]:
    return {"name": name, "count": 4, "content": content}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"ids": ("a", "b", "c", "x"), "plan": drawn()},
            (
                r"2 ids differ, first d, which only one has seen\. Make both .* the same limit"
                r" and seed"
            ),
        ),
        (
            {"ids": ("a", "b", "c"), "plan": drawn()},
            r"1 id differs, first d, which only one has seen \(one saw 4 images, two 3\)\.",
        ),
        (
            {"ids": ("a", "b", "c", "0"), "plan": drawn(seed=3)},
            r"first 0, which only two has seen \(they were drawn with seeds 0 and 3\)",
        ),
        (
            {"ids": tuple("wxyz"), "images": images("val")},
            r"8 ids differ, first a, .* \(one saw 4 images of photos, two 4 of val\)",
        ),
        (
            {"images": images(content="c2")},
            r"ids of their images are the same, but the contents or the classes differ",
        ),
        (
            {"plan": drawn(batch=2), "sizes": (2, 2)},
            r"the same 4 images in minibatches of 4 and 2\. Make both with the same batch",
        ),
        ({"ids": tuple("bacd"), "plan": drawn(seed=7)}, "in minibatches drawn with seeds 0 and 7"),
        (
            {"ids": tuple("bacd"), "plan": drawn(seed=None)},
            "the same 4 images in other minibatches",
        ),
        (
            {"versions": {"cls": 1}},
            "Grams of the tokens all only and two of cls. Make both with the same tokens",
        ),
        ({"versions": {"cls": 1, "all": 2}}, r"computed in different ways \(versions 1 and 2\)"),
        (
            {"transform": seen(resize=224)},
            (
                r"one saw the central 87\.5 % of an image's shorter side \(224 of 256 px\) and two"
                r" 100\.0 % \(224 of 224 px\)"
            ),
        ),
        ({"transform": seen(fit="pad")}, r"one saw its images cropped and two whole: take models"),
        ({"transform": seen(flip=True)}, r"one saw its images as they are and two mirrored: take"),
        ({"transform": seen(resize=248)}, r"87\.5 % .* and two 90\.3 % \(224 of 248 px\)"),
        (
            {"transform": seen(interpolation="bilinear")},
            (
                "one saw its images resampled bicubic and two bilinear: make two again with"
                ' interpolation="bicubic", or compare with'
            ),
        ),
    ],
)
def test_models_that_were_shown_different_things_are_refused(
    other: dict[str, Any], said: str
) -> None:
    one, two = alike(**other)
    with pytest.raises(InputError, match=rf"^one and two cannot be compared: .*{said}"):
        require_comparable(one, two)
    with pytest.raises(InputError, match=r"^two and one cannot be compared: "):
        require_comparable(two, one)
    if "transform" in other:
        require_comparable(one, two, any_transform=True)
        (remark,) = remarks(one, two)
        resampled = other["transform"]["interpolation"] == "bilinear"
        begins = "Where images are resized, what" if resampled else "What"
        assert remark.startswith(
            f"{begins} differs between one and two is not the models alone: one saw "
        )
    else:
        with pytest.raises(InputError, match="cannot be compared"):
            require_comparable(one, two, any_transform=True)


def test_other_colours_are_named_beside_another_region_or_interpolation() -> None:
    other = seen(interpolation="bilinear", mean=[0.1] * 3)
    (remark,) = remarks(*alike(transform=other))
    assert remark.endswith(
        "two bilinear. The images are normalised otherwise, too: one's by mean (0.5, 0.5, 0.5) and"
        " std (0.25, 0.25, 0.25), two's by mean (0.1, 0.1, 0.1) and std (0.25, 0.25, 0.25)."
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, None),
        ({"transform": seen(mean=[0.1] * 3, std=[0.1] * 3)}, None),
        ({"transform": seen(resize=438, crop=384)}, None),  # 384 · 256/224 = 438.9, rounded down
        ({"transform": seen(resize=592, crop=518)}, None),
        ({"images": images(name="another name")}, None),
        ({"plan": {}}, None),
        (
            {"precision": "bfloat16"},
            "The forward pass of one was in float32 and that of two in bfloat16.",
        ),
        (
            {"versions": {"all": 1, "cls": 1}},
            "one has no Grams of the tokens cls, which two has: the two are compared without them.",
        ),
    ],
)
def test_models_that_were_shown_the_same_are_not(other: dict[str, Any], said: str | None) -> None:
    if "plan" in other:
        other = {"plan": {**alike()[0].plan, "seed": None}}  # of others' files it may not be known
    one, two = alike(**other)
    require_comparable(one, two)
    require_comparable(two, one)
    assert remarks(one, two) == (() if said is None else (said,))
