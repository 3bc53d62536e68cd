"""The declaration of a study, in a few lines of Python or in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from sslens import zoo
from sslens.comparisons.own_claims import OwnClaim
from sslens.data.sources import call_source, require_limit, require_source
from sslens.data.transform_names import parse_transforms
from sslens.device_names import require_device_name
from sslens.errors import InputError, do_all, nearest
from sslens.find import names
from sslens.fingerprint import is_fingerprint
from sslens.models.taps import ON_REQUEST
from sslens.plan import SMALLEST, require_size
from sslens.settings_file import parse_yaml, read_yaml, split_overrides
from sslens.study.conditions import Condition, parse_condition
from sslens.study.contract import wants_images
from sslens.study.given import list_models, name_models, name_source
from sslens.study.groups import Groups, parse_groups, require_groups
from sslens.study.image_sets import SAMPLES, choose_sample
from sslens.zoo.globs import expand_globs

#: the keys of a study that hold several texts
LISTS = ("models", "analyses", "tokens", "taps", "detection", "transforms")
#: keys that a study without them does not write, so that it is written as ever
UNWRITTEN = (
    *("taps", "detection", "side", "generator", "require_blurred", "transforms"),
    *("groups", "claims", "check"),
)
#: the keys of a study that hold more than texts, numbers, true and false
NESTED = ("groups", "claims", "check")
#: the keys that hold a text, in the place of what may be given in memory
SOURCES = ("images", "bank")
#: what a study in memory has and no file
IN_MEMORY = ("given",)
#: what a value of a type is called in messages
KINDS = {str: "text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True, repr=False)
class Study:
    """The declaration of a study: models, images and analyses.

    Models, images and bank may be given as they are in Python: networks, Backbones, fingerprints,
    `Path`s, sets of images, arrays. The study then has a text for each, and the thing itself in
    `given`.

    Attributes:
        models: sources of models as `sslens.load` reads them, or fingerprint files.
        images: a source of images as `sslens.open_images` reads it; not needed where all models are
            fingerprints, or where only paths of fine-tuning are shown.
        analyses: the names of files of `analyses/`; unless given, all that apply to these models
            and images, except the costly ones.
        tokens: which tokens' Grams are compared, some of "all" (flattened), "cls" and
            "patch".
        taps: kinds of layers that are read beside the usual ones: "norm2", the normalisation after
            attention.
        side: the side in pixels of the square images that models see for dense tasks, such as 64
            for images of 64 px and models of 32; each model's usual one unless given.
        generator: the folder or file of a diffusion model that makes images from the features of
            one or more of the models (`sslens rcdm train`), for the analysis "samples".
        bank: labelled images that vote in k-NN; unless given, each of `images` is classified by the
            others.
        limit: the number of images taken, drawn by their ids and the seed; the bank is taken whole.
        controls: whether two random initialisations of each architecture, and raw pixels, are
            added.
        batch: the number of images in a minibatch of CKA.
        seed: decides which images are drawn, the minibatches, and the first weights of probes.
        on_bad: "stop" at an image that cannot be decoded, or "skip" it.
        precision: the precision of the forward pass, "float32", "bfloat16", "float16" or "auto";
            Grams are float32.
        grid: how probes are trained: "converged", to their optimum; "paper", at the papers' 216
            points; or "small", at 8 points.
        detection: how detectors are trained, in entries such as "heads=small" or
            "blocks=[8, 9, 10, 11]" (`sslens.study.detector_request`).
        require_blurred: whether the images and the bank must be such as `sslens blur-faces` wrote:
            each listed, with its digest, in the manifest of their folder.
        transforms: what is done to the images to see what models are blind to, such as "rotation"
            or "rotation=45" (`sslens.data.transform_names`); eleven transforms unless given.
        decode: whether each of these is also drawn for each image, by its id, and decoded, which
            takes one more pass for each.
        any_transform: whether fingerprints are compared even where their models saw other parts of
            the images, or images that were resampled in another way.
        groups: two groups of models, each a name with the models as `models` has them: claims about
            two families are then about these groups, the first in the role of joint embedding and
            the second in the role of reconstruction. A group's fine-tuned models and CNNs are
            compared with the others only where the group has no other models.
        claims: the user's own claims, judged beside those of the papers.
        check: conditions on claims and numbers, for `sslens check`.
        sample: how a limit draws images: "plain", by a hash of their ids, as the papers and
            fingerprints do; or "stratified", with the classes in proportion, and whole classes
            where there would be fewer than 20 images a class. New comparisons of the command line
            are stratified.
        given: models and images in memory, by the texts that stand for them.

    >>> Study(models="pixels", images=Path("photos"), analyses=("cka-blocks",))
    <Study of pixels on photos: cka-blocks>
    """

    models: Any
    images: Any = None
    analyses: tuple[str, ...] = ()
    bank: Any = None
    limit: int | None = 1024
    controls: bool = True
    batch: int = 32
    seed: int = 0
    on_bad: str = "stop"
    device: str = "auto"
    precision: str = "float32"
    tokens: tuple[str, ...] = ("all", "cls")
    any_transform: bool = False
    grid: str = "converged"
    taps: tuple[str, ...] = ()
    detection: tuple[str, ...] = ()
    side: int | None = None
    generator: str | None = None
    require_blurred: bool = False
    transforms: tuple[str, ...] = ()
    decode: bool = True
    groups: Groups = field(default_factory=dict)
    claims: tuple[OwnClaim, ...] = ()
    check: tuple[Condition, ...] = ()
    sample: str = "plain"
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self._name_given()
        for entry in fields(self):
            _require_kind(entry, getattr(self, entry.name))
        if not self.models:
            raise InputError("A study needs at least one model.")
        twice = [model for model in self.models if self.models.count(model) > 1]
        if twice:
            raise InputError(
                f"{twice[0]} is given twice: it would be compared with itself, which is done"
                " anyway."
            )
        if self.side is not None and self.side < 1:
            raise InputError(f"Images of {self.side} px cannot be", mend="give 1 or more as {side}")
        live = [model for model in self.models if not self._is_fingerprint(model)]
        for model in live:
            if model not in self.given:
                zoo.check(model)
        for name in self.analyses:
            if name not in names("analyses"):
                raise InputError(
                    f'There is no analysis "{name}": {nearest(name, names("analyses"))}'
                )
        if live and self.images is None and self._wants_images():
            raise InputError(
                f"{live[0]} is no fingerprint, so images are needed", mend="give {images}"
            )
        for name, values, options in (
            ("on_bad", (self.on_bad,), ("stop", "skip")),
            ("sample", (self.sample,), SAMPLES),
            ("precision", (self.precision,), ("float32", "bfloat16", "float16", "auto")),
            ("grid", (self.grid,), ("converged", "paper", "small")),
            ("tokens", self.tokens, ("all", "cls", "patch")),
            ("taps", self.taps, ON_REQUEST),
        ):
            for value in values:
                if value not in options:
                    raise InputError(f'{name} is "{value}": {nearest(value, options)}')
        if self.sample != "plain" and self.images is not None:
            choose_sample([self.given.get(one, one) for one in self.models], self.sample)
        if self.require_blurred and self.images is None:
            raise InputError(
                "Faces must be blurred, but there are no images of which that could be checked",
                mend="give {images}",
            )
        require_device_name(self.device)
        if self.images is not None:
            require_size(self.batch)
            require_limit(self.limit, SMALLEST)
        parse_transforms(self.transforms)
        require_groups(self.groups)
        claimed = [claim.name for claim in self.claims]
        for name in claimed:
            if claimed.count(name) > 1:
                raise InputError(f'Two claims of the study are called "{name}".')
        if self.detection:
            from sslens.study.detector_request import DetectorRequest

            DetectorRequest.parse(self.detection)

    def _name_given(self) -> None:
        """Put a text in the place of each model and set of images that is in memory, and files in
        the place of a pattern of their names."""
        models, given = name_models(list_models(self.models))
        object.__setattr__(self, "models", expand_globs(models))
        drawn = self._draw_as_opened()
        for role in SOURCES:
            source, own = getattr(self, role), drawn and role == "images"
            object.__setattr__(self, role, name_source(source, role, given, drawn=own))
        object.__setattr__(self, "given", {**self.given, **given})
        groups = {name: tuple(members) for name, members in self.groups.items()}
        object.__setattr__(self, "groups", groups)

    def _draw_as_opened(self) -> bool:
        """Whether the study draws the images of a set in memory from the set's own source; it takes
        over how the set was drawn, if it takes the set whole, and that bad images are skipped."""
        opened = getattr(self.images, "opened", None)
        if opened is None:
            return False
        if self.images.skipped:
            object.__setattr__(self, "on_bad", "skip")
        if opened.limit is None:
            return True
        if opened.seed != self.seed:
            return False
        if self.limit is None or self.limit >= len(self.images):
            object.__setattr__(self, "limit", opened.limit)
            object.__setattr__(self, "sample", opened.sample)
            return True
        return opened.sample == self.sample == "plain"

    def _is_fingerprint(self, model: str) -> bool:
        """Whether a model is a fingerprint, in a file or in memory."""
        if model in self.given:
            return hasattr(self.given[model], "grams")
        return is_fingerprint(Path(model))

    def __repr__(self) -> str:
        on = "" if self.images is None else f" on {call_source(self.images)}"
        what = ", ".join(self.analyses) or "all that apply"
        return f"<Study of {', '.join(map(call_source, self.models))}{on}: {what}>"

    def require_sources(self) -> None:
        """Refuse images or a bank that are not there, before anything heavy is imported.

        Raises:
            InputError: a source is not there; the message names it.
        """
        for source in (self.images, self.bank):
            if source is not None and source not in self.given:
                require_source(source)

    def _wants_images(self) -> bool:
        """Whether any analysis needs something of images; those that are not named do."""
        return not self.analyses or any(wants_images(name) for name in self.analyses)

    def yaml(self) -> str:
        """Return the study as the text of a file that `sslens study` reads."""
        import yaml

        kept = (entry.name for entry in fields(self) if entry.name not in IN_MEMORY)
        values = {name: getattr(self, name) for name in kept}
        for name in UNWRITTEN:
            if not values[name]:
                del values[name]
        if self.decode:
            del values["decode"]
        if self.sample == "plain":
            del values["sample"]
        lists: dict[str, object] = {
            key: list(value) for key, value in values.items() if isinstance(value, tuple)
        }
        if self.groups:
            lists["groups"] = {name: list(members) for name, members in self.groups.items()}
        for name in ("claims", "check"):
            if name in values:
                lists[name] = [entry.to_yaml() for entry in getattr(self, name)]
        return yaml.safe_dump(values | lists, sort_keys=False)


def read(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study from a YAML file, with overrides such as `limit=256` or `models=[a, b]`.

    Raises:
        InputError: the file is not there or not YAML, a key is not one of a study's, or an
            override is given twice with different values.
    """
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise InputError(
            f"There is no file {path}: a study is a YAML file with models and, but for"
            " fingerprints, images."
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"{path} is no file: a study is a YAML file, such as study.yaml beside a report."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{path} holds no keys: a study has models and, but for fingerprints, images."
        )
    for key, value in split_overrides(overrides, "override"):
        values[key] = parse_yaml(value, f'The value of "{key}={value}"')
    settings = {entry.name: entry for entry in fields(Study) if entry.name not in IN_MEMORY}
    for key in values:
        if key not in settings:
            raise InputError(f'A study has no "{key}" ({path}): {nearest(str(key), settings)}')
    if "models" not in values:
        raise InputError(f"{path} does not say models.")
    return Study(**{key: _check_value(settings[key], value, path) for key, value in values.items()})


def _kinds_of(entry: "Field[Any]") -> tuple[Any, ...]:
    """List the types of values that a field may have, by its annotation."""
    if entry.name in SOURCES:
        return str, type(None)
    return get_args(entry.type) or (entry.type,)


def _require_kind(entry: "Field[Any]", value: Any) -> None:
    """Refuse a value of a wrong type, such as one name where several are wanted."""
    if entry.name in (*NESTED, *IN_MEMORY):
        return  # they are checked when they are made
    if entry.name in LISTS:
        fits = isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)
        expected = "a tuple of text"
    else:
        kinds = _kinds_of(entry)
        fits = type(value) in kinds  # by identity: true is an int to isinstance
        expected = KINDS[kinds[0]]
    if not fits:
        raise InputError(f"{entry.name} is {value!r}", mend=f"give {expected} to {{{entry.name}}}")


def _check_value(entry: "Field[Any]", value: Any, path: Path) -> Any:
    """A value of a study file as its field has it; a single text will do for a list of them."""
    if entry.name == "groups":
        return parse_groups(value, str(path))
    if entry.name in NESTED:
        parse = OwnClaim.parse if entry.name == "claims" else parse_condition
        if not isinstance(value, list):
            raise InputError(f"{entry.name} is {value!r} ({path}): expected a list.")
        return tuple(do_all(parse, value))
    if entry.name in LISTS:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
            return tuple(texts)
        expected = "a list of text"
    else:
        kinds = _kinds_of(entry)
        if type(value) in kinds:  # by identity: true is an int to isinstance
            return value
        expected = KINDS[kinds[0]]
    raise InputError(
        f"{entry.name} is {value!r} ({path} or an override of it): expected {expected}."
    )
