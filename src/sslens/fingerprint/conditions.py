"""What a model was shown when its Grams were made, and whether two models were shown the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sslens.counts import spell_count
from sslens.errors import Caution, InputError, require_type

if TYPE_CHECKING:
    from sslens.capture import Grams
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan


#: settings of a transform that are there where they are not usual, with the usual value, and how
#: images are seen with that and with another
PLACED = (("fit", "crop", ("cropped", "whole")), ("flip", False, ("as they are", "mirrored")))


@dataclass(frozen=True, repr=False)
class Conditions:
    """The conditions under which Grams were computed; two models can be compared only if they
    agree.

    Attributes:
        name: the model's name in sentences.
        ids: the ids of the images, minibatch by minibatch.
        images: "name", "count" and "content" of the set; the last is the digest of its contents.
        plan: "batch" (the number of images in a minibatch), "seed" (None where it is not known) and
            "digest" (of the minibatches).
        sizes: the number of images in each minibatch.
        transform: resize, crop, interpolation, mean and std.
        precision: the precision of the forward pass.
        versions: the versions of the computation of Grams, by tokens.
    """

    name: str
    ids: tuple[str, ...]
    images: Mapping[str, Any]
    plan: Mapping[str, Any]
    sizes: tuple[int, ...]
    transform: Mapping[str, Any]
    precision: str
    versions: Mapping[str, int]

    def __repr__(self) -> str:
        images = self.images
        return (
            f"<Conditions of {self.name}: {spell_count(images['count'], 'image')} of"
            f" {images['name']} in {spell_count(len(self.sizes), 'minibatch')}, {self.precision}>"
        )

    @classmethod
    def of(
        cls,
        model: "Backbone",
        images: "ImageSet",
        plan: "Plan",
        *,
        tokens: Sequence[str] = ("all",),
        precision: str = "float32",
        seed: int | None = None,
    ) -> "Conditions":
        """Return the conditions of a pass of a model over images.

        Args:
            model, images, plan: what the pass is of.
            tokens: which tokens' Grams are computed.
            precision: the precision of the forward pass.
            seed: the seed with which the plan was drawn, if it is known.

        Raises:
            InputError: an argument is of another type.
        """
        from sslens.capture import GramReducer
        from sslens.capture.keys import PassRequest

        PassRequest.of(model, images, plan, None, precision)
        return cls(
            name=model.name,
            ids=plan.ids,
            images={"name": images.name, "count": len(images), "content": images.content},
            plan={"batch": plan.sizes[0], "seed": seed, "digest": plan.digest},
            sizes=plan.sizes,
            transform=model.transform.spec(),
            precision=precision,
            versions=dict.fromkeys(tokens, GramReducer.version),
        )

    def require_made(self, grams: "Grams") -> None:
        """Refuse Grams that were made under other conditions.

        Raises:
            InputError: the Grams are of other images, or their key says other conditions.
        """
        shown = {
            "images": self.images["content"],
            "plan": self.plan["digest"],
            "transform": dict(self.transform),
            "precision": self.precision,
        }
        if grams.ids != self.ids:
            raise InputError(
                f"Grams of {grams.model} over {spell_count(len(grams.ids), 'image')}: not these"
                " conditions'",
                mend="give the conditions of their pass as {conditions}",
            )
        if any(grams.key.get(name) != value for name, value in shown.items()):
            raise InputError(
                f"The key of the Grams of {grams.model} does not say these conditions",
                mend="give the conditions of their pass as {conditions}",
            )


#: what differs, and how it is mended
Difference: TypeAlias = tuple[str, str]


def require_comparable(a: Conditions, b: Conditions, *, any_transform: bool = False) -> None:
    """Refuse to compare two models that were shown different things.

    The images (ids and contents), the minibatches and the version of the Grams must be the same. So
    must the visible part of an image and the interpolation, unless `any_transform`. Size in pixels,
    mean and standard deviation belong to the model and may differ, and so may the precision, which
    `remarks` mentions.

    Raises:
        InputError: the message says what differs, and what to do.

    >>> given = {"ids": ("x", "y", "z", "w"), "sizes": (4,), "versions": {"all": 1}}
    >>> given |= {"images": {"name": "photos", "count": 4, "content": "5e…"}}
    >>> given |= {"plan": {"batch": 4, "seed": 0, "digest": "c1…"}, "precision": "float32"}
    >>> small = {"resize": 256, "crop": 224, "interpolation": "bicubic"}
    >>> large = {"resize": 592, "crop": 518, "interpolation": "bicubic"}  # 8 / 7 as 256 / 224
    >>> a = Conditions("mae", transform=small, **given)
    >>> require_comparable(a, Conditions("dinov2", transform=large, **given))
    >>> other = Conditions("moco-v3", transform=small | {"interpolation": "bilinear"}, **given)
    >>> require_comparable(a, other)
    Traceback (most recent call last):
    sslens.errors.InputError: mae and moco-v3 cannot be compared: mae saw its images resampled...
    """
    for side in (a, b):
        require_type(side, Conditions, "conditions", "give the conditions of a fingerprint")
    different = _images(a, b) or _minibatches(a, b) or _grams(a, b)
    if different is None and not any_transform:
        different = _region(a, b) or _resampling(a, b)
    if different is not None:
        what, mend = different
        raise InputError(f"{a.name} and {b.name} cannot be compared: {what}", mend=mend)


def remarks(a: Conditions, b: Conditions) -> tuple[str, ...]:
    """Return sentences that a reader of an allowed comparison must know: what still differs between
    the two models' conditions.

    >>> given = {"ids": (), "images": {}, "plan": {}, "sizes": (), "transform": {}}
    >>> given |= {"versions": {"all": 1}}
    >>> mae = Conditions("mae", precision="float32", **given)
    >>> remarks(mae, Conditions("dino", precision="bfloat16", **given))
    ('The forward pass of mae was in float32 and that of dino in bfloat16.',)
    """
    sentences: list[str] = []
    if a.precision != b.precision:
        sentences.append(
            Caution(
                f"The forward pass of {a.name} was in {a.precision} and that of {b.name} in"
                f" {b.precision}."
            )
        )
    for one, other in ((a, b), (b, a)):
        alone = [tokens for tokens in one.versions if tokens not in other.versions]
        if alone:
            sentences.append(
                f"{other.name} has no Grams of the tokens {_list(alone)}, which {one.name} has: the"
                " two are compared without them."
            )
    differs = f"differs between {a.name} and {b.name} is not the models alone"
    colours = _say_colours(a, b)
    if (region := _region(a, b)) is not None:
        sentences.append(Caution(f"What {differs}: {region[0]}.{colours}"))
    elif (resampling := _resampling(a, b)) is not None:
        resized = f"Where images are resized, what {differs}: {resampling[0]}."
        sentences.append(Caution(resized + colours))
    return tuple(sentences)


def _say_colours(a: Conditions, b: Conditions) -> str:
    """The colours of two models' images, each the model's own; empty where they are the same."""
    each = []
    for view in (a, b):
        mean, std = (view.transform.get(key, ()) for key in ("mean", "std"))
        each.append(f"mean {_round(mean)} and std {_round(std)}")
    if each[0] == each[1]:
        return ""
    said = f"{a.name}'s by {each[0]}, {b.name}'s by {each[1]}"
    return f" The images are normalised otherwise, too: {said}."


def _round(channels: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in channels)})"


def _images(a: Conditions, b: Conditions) -> Difference | None:
    """How the images differ."""
    apart = sorted(set(a.ids) ^ set(b.ids))
    if apart:
        owner = a if apart[0] in set(a.ids) else b
        difference = (
            f"{spell_count(len(apart), 'id', 'differ')}, first {apart[0]}, which only {owner.name}"
            " has seen"
        )
        if a.images["name"] != b.images["name"]:
            difference += (
                f" ({a.name} saw {spell_count(len(a.ids), 'image')} of {a.images['name']}, {b.name}"
                f" {len(b.ids):,} of {b.images['name']})"
            )
        elif _seeds_differ(a, b):
            difference += f" (they were drawn with seeds {a.plan['seed']} and {b.plan['seed']})"
        elif len(a.ids) != len(b.ids):
            difference += (
                f" ({a.name} saw {spell_count(len(a.ids), 'image')}, {b.name} {len(b.ids):,})"
            )
        return f"{difference}.", "make both over the same images, with the same {limit} and {seed}"
    if a.images["content"] != b.images["content"]:
        return (
            "the ids of their images are the same, but the contents or the classes differ"
            f" ({a.name} saw {a.images['name']}, {a.images['content'][:12]}, and {b.name}"
            f" {b.images['name']}, {b.images['content'][:12]})",
            "make both over one copy of the same images, which {images} must be too where it is"
            " given: these are others with the same file names, or one of the two was encoded"
            " again, resized or sorted into other folders",
        )
    return None


def _minibatches(a: Conditions, b: Conditions) -> Difference | None:
    """How the minibatches differ, the images being the same."""
    if (a.plan["digest"], a.sizes) == (b.plan["digest"], b.sizes):
        return None
    how = "in other minibatches"
    if a.plan["batch"] != b.plan["batch"]:
        how = f"in minibatches of {a.plan['batch']} and {b.plan['batch']}"
    elif _seeds_differ(a, b):
        how = f"in minibatches drawn with seeds {a.plan['seed']} and {b.plan['seed']}"
    return (
        f"they saw the same {len(a.ids):,} images {how}.",
        "make both with the same {batch} and {seed}",
    )


def _grams(a: Conditions, b: Conditions) -> Difference | None:
    """How the Grams differ, the images and minibatches being the same."""
    both = a.versions.keys() & b.versions.keys()
    if not both:
        return (
            f"{a.name} has Grams of the tokens {_list(a.versions)} only and {b.name} of"
            f" {_list(b.versions)}.",
            "make both with the same {tokens}",
        )
    for tokens in sorted(both):
        if a.versions[tokens] != b.versions[tokens]:
            return (
                f"their Grams were computed in different ways (versions {a.versions[tokens]} and"
                f" {b.versions[tokens]}).",
                "make both with one version of sslens",
            )
    return None


def _region(a: Conditions, b: Conditions) -> Difference | None:
    """How the part of the images that is seen differs."""
    ours, theirs = a.transform, b.transform
    if ours == theirs:
        return None
    mend = "take models with the same region, or compare with {any_transform=True}"
    for name, usual, clauses in PLACED:
        ways = [view.get(name, usual) for view in (ours, theirs)]
        if ways[0] != ways[1]:
            how = [clauses[way != usual] for way in ways]
            return f"{a.name} saw its images {how[0]} and {b.name} {how[1]}", mend
    wide, narrow = (view["resize"] / view["crop"] for view in (ours, theirs))
    # a resize is a whole number, rounded down from the ratio that was meant: one pixel either way
    # is no other region
    if abs(wide - narrow) >= 1 / min(ours["crop"], theirs["crop"]):
        return (
            f"{a.name} saw the central {100 / wide:.1f} % of an image's shorter side"
            f" ({_sides(ours)}) and {b.name} {100 / narrow:.1f} % ({_sides(theirs)})",
            mend,
        )
    return None


def _resampling(a: Conditions, b: Conditions) -> Difference | None:
    """How the way in which images are resized differs."""
    ours, theirs = a.transform, b.transform
    if ours.get("interpolation") != theirs.get("interpolation"):
        # released ViTs resample bicubic, and raw pixels bilinear
        kinds = (ours["interpolation"], theirs["interpolation"])
        common = "bicubic" if "bicubic" in kinds else kinds[0]
        other = a if ours["interpolation"] != common else b
        return (
            f"{a.name} saw its images resampled {ours['interpolation']} and {b.name}"
            f" {theirs['interpolation']}",
            f"make {other.name} again with {{interpolation={common}}}, or compare with"
            " {any_transform=True}",
        )
    return None


def _seeds_differ(a: Conditions, b: Conditions) -> bool:
    seeds = (a.plan["seed"], b.plan["seed"])
    return None not in seeds and seeds[0] != seeds[1]


def _sides(transform: Mapping[str, Any]) -> str:
    return f"{transform['crop']} of {transform['resize']} px"


def _list(tokens: Mapping[str, int] | Sequence[str]) -> str:
    return " and ".join(tokens)
