"""Faces: lists of boxes, a blur without a seam, folders that are blurred, and their manifest."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sslens.cli import main
from sslens.data import open_images
from sslens.data.decoding import decode
from sslens.data.faces.blur import blur_faces, blur_file, read_header
from sslens.data.faces.folder import BlurRequest, blur_folder, plan_blur
from sslens.data.faces.lists import FaceList, read_list
from sslens.data.faces.manifest import NAME, read_manifest, require_blurred
from sslens.data.faces.places import find_images
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.store import write_beside
from sslens.study import Study
from sslens.study.planning import open_study_images

BOX = [10.0, 12.0, 30.0, 28.0]


def draw_noise(height: int = 48, width: int = 64, seed: int = 0) -> Image.Image:
    """An image of blocks of 4 px in random colours, which a blur changes everywhere."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(small.repeat(4, 0).repeat(4, 1))


def as_boxes(*boxes: Sequence[float]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def open_bytes(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def difference(a: Image.Image, b: Image.Image) -> np.ndarray:
    """The greatest difference of each pixel over the channels."""
    gap = np.abs(np.asarray(a, np.int64) - np.asarray(b, np.int64))
    return gap if gap.ndim == 2 else gap.max(axis=2)


class TestBlur:
    def test_equals_the_equation_with_true_gaussians(self) -> None:
        image = draw_noise(96, 128)
        x0, y0, x1, y1 = 40.0, 30.0, 80.0, 60.0  # d = 40: grown by 4, sigma 4
        mask = np.zeros((96, 128))
        mask[26:65, 36:85] = 1  # with both ends, as Pillow draws
        mask = gaussian_filter(mask, 4.0, mode="nearest")[..., None]
        pixels = np.asarray(image, np.float64)
        blurred = gaussian_filter(pixels, (4.0, 4.0, 0), mode="nearest")
        expected = (1 - mask) * pixels + mask * blurred
        ours = np.asarray(blur_faces(image, as_boxes([x0, y0, x1, y1])), np.float64)
        gap = np.abs(ours - expected)
        assert gap.mean() < 0.5
        assert gap.max() < 6

    def test_no_seam_and_nothing_else_changes(self) -> None:
        ramp = np.tile(np.arange(200, dtype=np.uint8), (160, 1))
        blurred = np.asarray(blur_faces(Image.fromarray(ramp), as_boxes([60, 60, 100, 100])))
        steps = np.abs(np.diff(blurred.astype(np.int64), axis=1))
        assert steps.max() <= 2  # a ramp of 1 a pixel stays one, without an edge around the box
        noise = draw_noise(160, 200)
        changed = difference(blur_faces(noise, as_boxes([60, 60, 100, 100])), noise) > 0
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        reach = 4 + 3 * 4 + 4  # enlarged by 4; the mask's blur reaches 3 sigma and its rounding
        assert rows[0] >= 60 - reach
        assert rows[-1] <= 100 + reach
        assert columns[0] >= 60 - reach
        assert columns[-1] <= 100 + reach
        assert changed[66:94, 66:94].mean() > 0.95

    def test_a_small_face_beside_a_large_one_is_blurred_as_if_alone(self) -> None:
        image = draw_noise(240, 320)
        large, small = [20.0, 20.0, 140.0, 140.0], [280.0, 200.0, 296.0, 216.0]
        both = blur_faces(image, as_boxes(large, small))
        alone = blur_faces(image, as_boxes(small))
        part = (270, 190, 306, 226)
        assert both.crop(part).tobytes() == alone.crop(part).tobytes()
        assert alone.crop(part).tobytes() != image.crop(part).tobytes()

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
    def test_modes_and_boxes_over_the_edge(self, mode: str) -> None:
        image = draw_noise().convert(mode)
        blurred = blur_faces(image, as_boxes([-20, -20, 20, 20], [50, 30, 500, 500]))
        assert (blurred.mode, blurred.size) == (image.mode, image.size)
        assert difference(blurred, image)[5, 5] > 0 or mode == "CMYK"
        assert blurred.tobytes() != image.tobytes()


class TestFile:
    def test_jpeg_keeps_its_tables_and_what_is_not_blurred(self) -> None:
        image = draw_noise(120, 160).resize((320, 240))
        content = encode(image, "jpeg", quality=83, subsampling=0, progressive=True)
        before = open_bytes(content)
        after = open_bytes(blur_file(content, as_boxes([20, 20, 100, 100]), upright=False))
        assert after.format == "JPEG"
        assert after.info.get("progressive")
        assert after.quantization == before.quantization
        assert after.layer == before.layer
        assert difference(after, before)[:, 160:].mean() < 0.4
        assert difference(after, before)[:, 160:].max() <= 8
        assert difference(after, before)[30:90, 30:90].mean() > 10

    def test_no_thumbnail_place_or_comment_is_left(self) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "SECRET PLACE"
        content = encode(draw_noise(), "jpeg", exif=exif, comment=b"SECRET COMMENT")
        blurred = blur_file(content, as_boxes(BOX), upright=False)
        assert b"SECRET" in content
        assert b"SECRET" not in blurred
        assert open_bytes(blurred).getexif().get(0x0112) == 6

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["jpeg", "png"])
    def test_boxes_of_the_upright_image(self, kind: str, orientation: int) -> None:
        """The blur lies where the box is in the image that a viewer shows."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 95, "subsampling": 0} if kind == "jpeg" else {}
        content = encode(draw_noise(80, 120), kind, exif=exif, **options)
        before = show(content)
        after = show(blur_file(content, as_boxes([5, 10, 35, 40]), upright=True))
        assert after.size == before.size
        changed = difference(after, before) > 12
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert rows.mean() == pytest.approx(25, abs=4)
        assert columns.mean() == pytest.approx(20, abs=4)

    @pytest.mark.parametrize(
        ("kind", "mode", "options"),
        [
            ("png", "RGBA", {}),
            ("png", "P", {}),
            ("png", "LA", {}),
            ("png", "1", {}),
            ("webp", "RGB", {"lossless": True}),
            ("bmp", "RGB", {}),
            ("ppm", "RGB", {}),
            ("tiff", "RGB", {"compression": "tiff_lzw"}),
            ("tiff", "CMYK", {}),
        ],
    )
    def test_formats_without_loss_change_only_the_face(
        self, kind: str, mode: str, options: dict[str, object]
    ) -> None:
        image = draw_noise(96, 128).convert(mode)
        content = encode(image, kind, **options)
        blurred = blur_file(content, as_boxes([8, 8, 40, 40]), upright=False)
        before, after = open_bytes(content), open_bytes(blurred)
        assert after.format == before.format
        assert after.size == before.size
        gap = difference(after.convert("RGBA"), before.convert("RGBA"))
        assert gap[:, 64:].max() == 0
        assert gap[16:32, 16:32].max() > 0
        if kind == "tiff":
            assert after.info.get("compression") == before.info.get("compression")

    @pytest.mark.parametrize("kind", ["gif", "webp"])
    def test_formats_with_loss_stay_near(self, kind: str) -> None:
        image = draw_noise(96, 128).convert("L").convert("RGB")
        content = encode(image.resize((256, 192), Image.Resampling.BICUBIC), kind)
        after = open_bytes(blur_file(content, as_boxes([8, 8, 80, 80]), upright=False))
        gap = difference(after.convert("RGB"), open_bytes(content).convert("RGB"))
        assert gap[:, 140:].mean() < 8 < gap[20:60, 20:60].mean()

    def test_a_turned_tiff_is_read_upright(self, tmp_path: Path) -> None:
        image = draw_noise(80, 120)
        image.save(tmp_path / "a.tif", tiffinfo={274: 6})
        header = read_header(tmp_path / "a.tif")
        assert (header.orientation, header.seen_size(True)) == (
            1,
            show((tmp_path / "a.tif").read_bytes()).size,
        )


def show(content: bytes) -> Image.Image:
    """An image as a viewer shows it."""
    return decode(io.BytesIO(content))


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


class TestList:
    @pytest.mark.parametrize(
        "value",
        [
            [
                {"url": "./a/1.jpg", "bboxes": [{"x0": 10, "y0": 12, "x1": 30.0, "y1": 28}]},
                {"url": "b.jpg", "bboxes": []},
            ],
            [{"image": "a\\1.jpg", "bboxes": [BOX]}, {"image": "b.jpg", "bboxes": []}],
            {"a/1.jpg": [BOX], "b.jpg": []},
            "score,image, x0,y0,x1,y1\n0.9,a/1.jpg,10,12,30,28\n,b.jpg,,,,\n",
            "\ufeffurl,x0,y0,x1,y1\r\na/1.jpg,10.0,12,30,28\r\nb.jpg,,,,\r\n",
        ],
    )
    def test_formats(self, tmp_path: Path, value: object) -> None:
        faces = read_list(write(tmp_path / "faces", value))
        assert {name: boxes.tolist() for name, boxes in faces.boxes.items()} == {
            "a/1.jpg": [BOX],
            "b.jpg": [],
        }
        assert faces.sha256 == hashlib.sha256((tmp_path / "faces").read_bytes()).hexdigest()

    def test_boxes_of_one_image_are_joined(self, tmp_path: Path) -> None:
        faces = read_list(write(tmp_path / "a", "image,x0,y0,x1,y1\na,1,2,3,4\na,5,6,7,8\n"))
        assert faces.boxes["a"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("", "its columns are"),
            ("image,x0,y0,x1,y1\n", "lists no image"),
            ("file;x0;y0\n", r"its columns are file;x0;y0"),
            ("image,x0,y0,x1,y1\na,1,2,3,\n", r"line 2 is a, 1, 2, 3"),
            ("image,x0,y0,x1,y1\n,1,2,3,4\n", r"line 2 is , 1, 2"),
            ("[1", "no JSON"),
            ([{"url": "a"}], "entry 0 is"),
            ([{"bboxes": []}], "entry 0 is"),
            ([{"url": "a", "bboxes": [[1, 2, 3]]}], "entry 0 is"),
            ([{"url": "a", "bboxes": [{"x0": 1, "y0": 2, "x1": "3", "y1": 4}]}], "entry 0 is"),
            ({"images": [], "annotations": []}, "COCO"),
            ({"a": [[0.1, 0.2, 0.3, 0.4]]}, "shares of the image"),
            ({"a": [[4, 4, 9, 9]], "b": [[0.1, 0.2, 0.3, 0.4]]}, "a box of b between -1 and 1"),
        ],
    )
    def test_other_formats_are_refused(self, tmp_path: Path, value: object, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_list(write(tmp_path / "faces", value))

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            read_list(tmp_path / "faces.json")


def make_list(*names: str) -> FaceList:
    return FaceList(Path("faces.csv"), "", {name: as_boxes(BOX) for name in names})


class TestPlaces:
    def test_imagenets_names(self) -> None:
        faces = make_list("train/n01/n01_1.JPEG", "train/n02/n02_5.JPEG", "val/V_0007.JPEG")
        train = find_images(faces, ["n01/n01_1.JPEG", "n02/n02_5.jpg"], "train")
        assert set(train.boxes) == {"n01/n01_1.JPEG", "n02/n02_5.jpg"}
        assert (train.missing, train.elsewhere, train.unlisted) == ((), 1, ())
        val = find_images(faces, ["n03/V_0007.JPEG"], "val")
        assert (set(val.boxes), val.elsewhere) == ({"n03/V_0007.JPEG"}, 2)
        both = ["train/n01/n01_1.JPEG", "train/n02/n02_5.JPEG", "val/n03/V_0007.JPEG"]
        assert set(find_images(faces, both, "imagenet").boxes) == set(both)

    def test_absolute_paths_and_ids(self) -> None:
        found = find_images(
            make_list("/data/photos/a/1.jpg", "b/1.jpg"), ["a/1.jpg", "b/1.jpg"], "x"
        )
        assert (set(found.boxes), found.missing) == ({"a/1.jpg", "b/1.jpg"}, ())

    def test_file_names_alone_count_only_where_all_differ(self) -> None:
        found = find_images(make_list("x/1.jpg", "y/2.jpg"), ["a/1.jpg", "b/1.jpg", "b/2.jpg"], "z")
        assert (found.boxes, found.missing) == ({}, ("x/1.jpg", "y/2.jpg"))
        assert found.unlisted == ("a/1.jpg", "b/1.jpg", "b/2.jpg")

    def test_two_names_of_one_image_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"x/a.jpg and a.jpg both mean the image a.jpg"):
            find_images(make_list("x/a.jpg", "a.jpg"), ["a.jpg"], "z")

    def test_a_suffix_that_could_be_two_images_is_missing(self) -> None:
        found = find_images(make_list("a.bmp"), ["a.jpg", "a.png"], "z")
        assert found.missing == ("a.bmp",)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images in two folders, in four formats, with a list of three that show faces."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(
        ("a/0.jpg", "a/1.png", "a/2.JPEG", "b/0.webp", "b/1.bmp", "b/2.jpg")
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_noise(seed=number).save(path)
    lines = ["image,x0,y0,x1,y1", "a/0.jpg,10,12,30,28", "a/0.jpg,40,30,60,44", "a/1.png,1,1,20,20"]
    lines += ["a/2.JPEG,,,,", "b/0.webp,10,10,30,30", "b/1.bmp,,,,", "b/2.jpg,,,,", ""]
    write(tmp_path / "faces.csv", "\n".join(lines))
    return tmp_path / "photos"


def ask(**options: object) -> BlurRequest:
    return BlurRequest(Path("photos"), Path("faces.csv"), **options)  # type: ignore[arg-type]


def read_all(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def note_names(made: list[str]) -> Callable[..., contextlib.AbstractContextManager[Path]]:
    """`write_beside`, which notes the names of the files that it writes."""

    @contextlib.contextmanager
    def write_and_note(path: Path, *, durable: bool = True) -> Iterator[Path]:
        made.append(path.name)
        with write_beside(path, durable=durable) as temporary:
            yield temporary

    return write_and_note


class TestFolder:
    def test_what_is_written(self, photos: Path) -> None:
        before = read_all("photos")
        manifest = blur_folder(ask(), quiet=True)
        assert manifest == Path("photos_blurred", NAME).resolve()
        after = read_all("photos_blurred")
        assert set(after) == {*before, NAME}
        assert read_all("photos") == before
        entries = read_manifest(manifest)
        assert {name: entry.faces for name, entry in entries.items()} == {
            "a/0.jpg": 2, "a/1.png": 1, "a/2.JPEG": 0, "b/0.webp": 1, "b/1.bmp": 0, "b/2.jpg": 0,
        }  # fmt: skip
        for name, entry in entries.items():
            assert (entry.original, entry.written) == (sha(before[name]), sha(after[name]))
            assert (before[name] == after[name]) == (entry.faces == 0)
        head = json.loads(manifest.read_text().splitlines()[0])
        assert head["boxes_sha256"] == sha(Path("faces.csv").read_bytes())

    def test_a_run_that_was_killed_goes_on(
        self, photos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = Path("whole")
        blur_folder(ask(out=whole), quiet=True)
        manifest = blur_folder(ask(), quiet=True)
        assert manifest is not None
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(lines[:3]) + lines[3][:40])  # two images, and half a line
        Path("photos_blurred/a/1.png").write_bytes(b"half")
        made = []
        monkeypatch.setattr("sslens.data.faces.folder.write_beside", note_names(made))
        blur_folder(ask(), quiet=True)
        assert sorted(made) == ["0.webp", "1.bmp", "1.png", "2.JPEG", "2.jpg"]  # not a/0.jpg
        assert read_all("photos_blurred") == read_all("whole")

    def test_other_boxes_blur_again_and_only_that(self, photos: Path) -> None:
        blur_folder(ask(), quiet=True)
        before = read_all("photos_blurred")
        Path("faces.csv").write_text(
            Path("faces.csv").read_text().replace("b/2.jpg,,,,", "b/2.jpg,5,5,40,40")
        )
        blur_folder(ask(), quiet=True)
        after = read_all("photos_blurred")
        assert {name for name in before if before[name] != after[name]} == {"b/2.jpg", NAME}

    def test_dry_run_writes_nothing(self, photos: Path) -> None:
        said: list[str] = []
        assert blur_folder(ask(), dry_run=True, quiet=True, say=said.append) is None
        assert not Path("photos_blurred").exists()
        assert "4 faces in 3 images; 3 are copied" in said[0]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("c/9.jpg,1,2,3,4", "1 names in faces.csv are of no image of photos: c/9.jpg"),
            ("b/1.bmp,30,2,30,40", r"b/1.bmp, has a box 30, 2, 30, 40, without extent"),
            ("b/1.bmp,nan,2,30,40", r"b/1.bmp, has a box nan, 2, 30, 40, without extent"),
            ("b/1.bmp,64,2,90,40", r"box 64, 2, 90, 40, outside its 64 × 48 pixels"),
        ],
    )
    def test_bad_boxes_stop_or_are_left_out(self, photos: Path, line: str, message: str) -> None:
        with Path("faces.csv").open("a") as file:
            file.write(line + "\n")
        with pytest.raises(InputError, match=message) as caught:
            blur_folder(ask(), quiet=True)
        assert 'on_bad="skip"' in str(caught.value)
        assert not Path("photos_blurred").exists()
        said: list[str] = []
        blur_folder(ask(on_bad="skip"), quiet=True, say=said.append)
        left_out = set() if line.startswith("c/") else {"b/1.bmp"}
        assert set(read_all("photos_blurred")) == {*read_all("photos"), NAME} - left_out
        assert line.split(",")[0] in said[0]

    def test_images_that_cannot_be_blurred(self, photos: Path) -> None:
        frames = [draw_noise(seed=seed) for seed in (1, 2)]
        frames[0].save(photos / "a/3.gif", save_all=True, append_images=frames[1:])
        Image.fromarray(np.zeros((48, 64), np.uint16)).save(photos / "a/4.png")
        (photos / "a/5.jpg").write_bytes((photos / "a/0.jpg").read_bytes()[:300])
        with Path("faces.csv").open("a") as file:
            file.writelines(f"a/{name},1,1,20,20\n" for name in ("3.gif", "4.png", "5.jpg"))
        said: list[str] = []
        blur_folder(ask(on_bad="skip"), quiet=True, say=said.append)
        for part in (
            "a/3.gif (has 2 frames",
            "a/4.png (has pixels of more than 8",
            "a/5.jpg (cannot",
        ):
            assert part in said[0]
        assert not {"a/3.gif", "a/4.png", "a/5.jpg"} & set(read_all("photos_blurred"))

    def test_unlisted_images_stop_or_are_copied(self, photos: Path) -> None:
        draw_noise().save(photos / "b/9.png")
        with pytest.raises(InputError, match=r"1 of 7 images of photos are not in faces.csv.*b/9"):
            blur_folder(ask(), quiet=True)
        manifest = blur_folder(ask(unlisted="copy"), quiet=True)
        assert manifest is not None
        assert read_manifest(manifest)["b/9.png"].faces is None

    def test_a_turned_image_with_faces_needs_a_word(self, photos: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        draw_noise().save(photos / "a/0.jpg", exif=exif)
        with pytest.raises(InputError, match=r"turned by EXIF: a/0.jpg"):
            blur_folder(ask(), quiet=True)
        # upright it has 48 × 64 pixels, and the second box lies at x = 40 to 60
        boxes = plan_blur(ask(orientation="upright")).boxes
        assert len(boxes["a/0.jpg"]) == 2
        with Path("faces.csv").open("a") as file:
            file.write("a/0.jpg,50,1,60,10\n")
        plan_blur(ask(orientation="stored"))
        with pytest.raises(InputError, match="outside its 48 × 64"):
            plan_blur(ask(orientation="upright"))

    def test_folders_that_cannot_be(self, photos: Path) -> None:
        for out in ("photos", "photos/b", "."):
            with pytest.raises(InputError, match="lie in each other"):
                blur_folder(ask(out=Path(out)), quiet=True)
        Path("mine").mkdir()
        draw_noise().save("mine/x.png")
        with pytest.raises(InputError, match="did not write"):
            blur_folder(ask(out=Path("mine")), quiet=True)
        with pytest.raises(InputError, match="is no folder"):
            plan_blur(BlurRequest(Path("nowhere"), Path("faces.csv")))
        with pytest.raises(InputError, match="None of the names"):
            plan_blur(BlurRequest(Path("mine"), Path("faces.csv")))

    def test_an_image_that_left_the_folder_leaves_the_manifest(self, photos: Path) -> None:
        blur_folder(ask(), quiet=True)
        (photos / "b/2.jpg").unlink()
        said: list[str] = []
        manifest = blur_folder(ask(on_bad="skip"), quiet=True, say=said.append)
        assert "1 image in" in said[0]
        assert manifest is not None
        assert "b/2.jpg" not in read_manifest(manifest)
        assert Path("photos_blurred/b/2.jpg").exists()


class TestRequired:
    def test_a_set_that_was_blurred_passes_whole_or_in_part(self, photos: Path) -> None:
        blur_folder(ask(), quiet=True)
        blurred = require_blurred(open_images("photos_blurred"))
        assert (blurred.with_faces, blurred.without, blurred.unlisted) == (3, 3, 0)
        part = require_blurred(open_images("photos_blurred/a", minimum=2))
        assert (part.manifest, part.with_faces, part.without) == (blurred.manifest, 2, 1)

    def test_images_that_are_not_in_it_or_changed_are_named(self, photos: Path) -> None:
        blur_folder(ask(), quiet=True)
        draw_noise().save("photos_blurred/b/new.png")
        with pytest.raises(InputError, match=r"1 of 7 images are not in .*: b/new.png"):
            require_blurred(open_images("photos_blurred"))
        Path("photos_blurred/b/new.png").unlink()
        Path("photos_blurred/a/0.jpg").write_bytes((photos / "a/0.jpg").read_bytes())
        with pytest.raises(InputError, match=r"1 of 6 images .* were changed .*: a/0.jpg"):
            require_blurred(open_images("photos_blurred"))
        # the same command mends it
        blur_folder(ask(), quiet=True)
        require_blurred(open_images("photos_blurred"))

    def test_sets_that_cannot_be_checked(self, photos: Path) -> None:
        with pytest.raises(InputError, match=r"holds no blurred.jsonl"):
            require_blurred(open_images("photos"))
        with pytest.raises(InputError, match="no folder of images"):
            require_blurred(from_arrays(np.zeros((4, 8, 8, 3), np.uint8)))
        Path("photos", NAME).write_text("{}\n")
        with pytest.raises(InputError, match="no manifest"):
            require_blurred(open_images("photos"))

    def test_a_study(self, photos: Path) -> None:
        blur_folder(ask(), quiet=True)
        study = Study(("pixels",), "photos_blurred", require_blurred=True)
        *_, notes = open_study_images(study, quiet=True)
        assert any("3 of 6 images had faces, 3 had none." in note for note in notes)
        with pytest.raises(InputError, match=r"holds no blurred.jsonl"):
            open_study_images(
                Study(("pixels",), "photos_blurred", bank="photos", require_blurred=True),
                quiet=True,
            )
        assert "require_blurred: true" in study.yaml()
        assert "require_blurred" not in Study(("pixels",), "photos").yaml()


class TestCommand:
    def test_it_runs(self, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["blur-faces", "photos", "--boxes", "faces.csv", "-o", "out"]) == 0
        out, err = capsys.readouterr()
        assert out.strip() == str(Path("out", NAME).resolve())
        assert "4 faces in 3 images" in err

    def test_without_boxes_it_says_how_to_get_them(
        self, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["blur-faces", "photos"]) == 2
        err = capsys.readouterr().err
        for words in ("--boxes", "face_annotations_ILSVRC.json", "face detector", "image, x0, y0"):
            assert words in err
