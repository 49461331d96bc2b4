"""List the published weights that this project can use, and their addresses."""

from __future__ import annotations

from dataclasses import dataclass

HUB, GITHUB = "https://huggingface.co", "https://github.com"
V1_FOLDER, CHECKER_FOLDER = "models/ldm/stable-diffusion-v1", "models/safety-checker"
UPSCALERS_FOLDER = "models/upscalers"
FACES_FOLDER, MASKS_FOLDER = "models/faces", "models/masks"
V1_LICENCE = (
    "CreativeML Open RAIL-M, https://huggingface.co/spaces/CompVis/stable-diffusion-license"
)
V1_4 = "CompVis/stable-diffusion-v-1-4-original"
V1_5 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
V1_INPAINTING = "stable-diffusion-v1-5/stable-diffusion-inpainting"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a hub repository.

    Attributes:
        path: Its path in the repository.
        name: Its name on this machine.
        sha256: Its digest, if publicly documented.
        size: Its length in bytes, likewise.
        release: The release of a GitHub repository that it is an asset of.
    """

    path: str
    name: str
    sha256: str | None = None
    size: int | None = None
    release: str = ""


@dataclass(frozen=True)
class Model:
    """The files downloaded under one name.

    Attributes:
        about: What it is for.
        gigabytes: Size of all files, in 10^9 bytes.
        repository: ``owner/name`` on the site.
        folder: Where the files go, from the root of this repository.
        files: The files.
        site: The hub, or GitHub.
    """

    about: str
    gigabytes: float
    repository: str
    folder: str
    files: tuple[RemoteFile, ...]
    site: str = HUB

    @property
    def page(self) -> str:
        """The page of the repository."""
        return f"{self.site}/{self.repository}"

    def address(self, file: RemoteFile, hub: str = HUB) -> str:
        """Return a file's address.

        Args:
            file: One of the files.
            hub: The hub, or a mirror of it.
        """
        if self.site == HUB:
            return f"{hub}/{self.repository}/resolve/main/{file.path}"
        return f"{self.page}/releases/download/{file.release}/{file.path}"


def _released(
    about: str, repository: str, folder: str, release: str, name: str, sha256: str, size: int
) -> Model:
    """Return a model of one file that its authors publish as a release on GitHub."""
    file = RemoteFile(name, name, sha256, size, release)
    return Model(about, size / 1e9, repository, folder, (file,), GITHUB)


def _real_esrgan(about: str, release: str, name: str, sha256: str, size: int) -> Model:
    """Return a network of Real-ESRGAN's, which is published under the BSD 3-Clause licence."""
    about = f"{about} (for scripts/upscale.py; BSD 3-Clause)"
    return _released(about, "xinntao/Real-ESRGAN", UPSCALERS_FOLDER, release, name, sha256, size)


MODELS = {
    "sd-v1-4": Model(
        about="Stable Diffusion 1.4: the default of txt2img and img2img",
        gigabytes=4.27,
        repository=V1_4,
        folder=V1_FOLDER,
        files=(
            RemoteFile(
                "sd-v1-4.ckpt",
                "model.ckpt",
                "fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556",
                4_265_380_512,
            ),
        ),
    ),
    "sd-v1-4-full-ema": Model(
        about="the same with weights and EMA averages, to train on (--ckpt, --use_ema)",
        gigabytes=7.7,
        repository=V1_4,
        folder=V1_FOLDER,
        files=(
            RemoteFile(
                "sd-v1-4-full-ema.ckpt",
                "sd-v1-4-full-ema.ckpt",
                "14749efc0ae8ef0329391ad4436feb781b402f4fece4883c7ad8d10556d8a36a",
                7_703_807_346,
            ),
        ),
    ),
    "sd-v1-5": Model(
        about="Stable Diffusion 1.5: the default where sd-v1-4 is not there",
        gigabytes=4.27,
        repository=V1_5,
        folder=V1_FOLDER,
        files=(
            RemoteFile(
                "v1-5-pruned-emaonly.safetensors",
                "model.safetensors",
                "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
                4_265_146_304,
            ),
        ),
    ),
    "sd-v1-5-full": Model(
        about="the same with weights and EMA averages, to train on (--ckpt, --use_ema)",
        gigabytes=7.7,
        repository=V1_5,
        folder=V1_FOLDER,
        files=(
            RemoteFile(
                "v1-5-pruned.safetensors",
                "v1-5-pruned.safetensors",
                "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6",
                7_703_324_286,
            ),
        ),
    ),
    "sd-v1-5-inpainting": Model(
        about="Stable Diffusion 1.5 for inpainting, 9 channels: the default of inpaint --prompt",
        gigabytes=4.27,
        repository=V1_INPAINTING,
        folder=V1_FOLDER,
        files=(
            RemoteFile(
                "sd-v1-5-inpainting.ckpt",
                "sd-v1-5-inpainting.ckpt",
                "c6bbc15e3224e6973459ba78de4998b80b50112b0ae5b5c67113d56b4e366b19",
                4_265_437_280,
            ),
        ),
    ),
    "safety-checker": Model(
        about="the checker that blacks out unsafe pictures",
        gigabytes=1.22,
        repository="CompVis/stable-diffusion-safety-checker",
        folder=CHECKER_FOLDER,
        files=(
            # Its length alone is documented; the rest of what is checked is the hub's own word.
            RemoteFile("config.json", "config.json", size=4_549),
            RemoteFile(
                "preprocessor_config.json",
                "preprocessor_config.json",
                "2a1da83b5e1032aaeef397552ddb408dca0d8cd1dc58f61bf6abf38d6f33a0a2",
                342,
            ),
            RemoteFile(
                "pytorch_model.bin",
                "pytorch_model.bin",
                "64b8393f1afd5a0c1ed2aa5f341fa7c08286839a48f3743162a76a2835c808bd",
                1_216_067_303,
            ),
        ),
    ),
    "realesrgan-x4plus": _real_esrgan(
        "Real-ESRGAN: pictures four times larger",
        "v0.1.0",
        "RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        67_040_989,
    ),
    "realesrgan-x2plus": _real_esrgan(
        "the same for twice",
        "v0.2.1",
        "RealESRGAN_x2plus.pth",
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        67_061_725,
    ),
    "realesrgan-anime": _real_esrgan(
        "the same for drawings, four times, a quarter of the size",
        "v0.2.2.4",
        "RealESRGAN_x4plus_anime_6B.pth",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        17_938_799,
    ),
    "yunet": Model(
        about="finds faces (for scripts/restore_faces.py; MIT)",
        gigabytes=232_589 / 1e9,
        repository="opencv/face_detection_yunet",
        folder=FACES_FOLDER,
        files=(
            RemoteFile(
                "face_detection_yunet_2023mar.onnx",
                "face_detection_yunet_2023mar.onnx",
                "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
                232_589,
            ),
        ),
    ),
    "gfpgan-v1.4": _released(
        "redraws faces (for scripts/restore_faces.py; Apache-2.0)",
        "TencentARC/GFPGAN",
        FACES_FOLDER,
        "v1.3.0",
        "GFPGANv1.4.pth",
        "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        348_632_874,
    ),
    "codeformer": _released(
        "the same, as close to the given face as asked (S-Lab License 1.0: no commercial use)",
        "sczhou/CodeFormer",
        FACES_FOLDER,
        "v0.1.0",
        "codeformer.pth",
        "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        376_637_898,
    ),
    "u2net": _released(
        "tells what a picture is of from its background (for scripts/mask.py; Apache-2.0)",
        "danielgatis/rembg",
        MASKS_FOLDER,
        "v0.0.0",
        "u2net.onnx",
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        175_997_641,
    ),
    "isnet": _released(
        "the same, with finer edges (for scripts/mask.py; Apache-2.0)",
        "danielgatis/rembg",
        MASKS_FOLDER,
        "v0.0.0",
        "isnet-general-use.onnx",
        "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        178_648_008,
    ),
    "birefnet": _released(
        "the same, with the finest edges, slow (for scripts/mask.py; MIT)",
        "danielgatis/rembg",
        MASKS_FOLDER,
        "v0.0.0",
        "BiRefNet-general-epoch_244.onnx",
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        972_666_916,
    ),
    "birefnet-lite": _released(
        "the same in a quarter of the size (for scripts/mask.py; MIT)",
        "danielgatis/rembg",
        MASKS_FOLDER,
        "v0.0.0",
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
        "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        224_005_088,
    ),
}


def describe() -> str:
    """List the models as text: name, size, purpose, place."""
    lines = []
    for name, model in MODELS.items():
        place = f"{model.folder}/{model.files[-1].name}"
        lines.append(f"{name:18}{model.gigabytes:5.2f} GB  {model.about}\n{'':28}-> {place}")
    return "\n".join([*lines, f"Licence of the Stable Diffusion weights: {V1_LICENCE}"])
