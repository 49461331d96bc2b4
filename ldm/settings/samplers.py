"""The tables of what a walk is made of: samplers, spacings, beta schedules.

A sampler, spacing or schedule of your own is one file or function with the rule and one line here;
command lines, pages, metadata and checks read these tables. Imports no torch: rules are named by
their import path and imported when they are first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ldm.errors import UserError


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler that can be chosen.

    Attributes:
        target: Import path of a ``ldm.models.diffusion.sampler.Sampler``.
        label: Its name in metadata: AUTOMATIC1111's where it has one.
        form: What tells it in our pictures from the sampler before it that has the same label.
        diffusers: The scheduler class of the diffusers library that steps alike; empty: none.
        karras: Whether it steps in noise levels, so that ``--spacing karras`` suits it.
        calls: Model evaluations per step.
        eta: What ``--ddim_eta`` does: it is ``used``, ``must be 0`` or is ``ignored``.
        schedule: The spacing that AUTOMATIC1111's "Automatic" is for it; empty is ``uniform``.
    """

    target: str
    label: str
    diffusers: str = ""
    karras: bool = False
    calls: int = 1
    eta: Literal["used", "must be 0", "ignored"] = "ignored"
    form: str = ""
    schedule: str = ""


_DIFFUSION = "ldm.models.diffusion"
_K, _PP = f"{_DIFFUSION}.k_samplers", f"{_DIFFUSION}.k_dpmpp"
_UNIPC = f"{_DIFFUSION}.unipc"


def _k(target: str, label: str, diffusers: str = "", **more: Any) -> SamplerEntry:
    return SamplerEntry(target, label, diffusers, karras=True, **more)


SAMPLERS = {
    "ddim": SamplerEntry(f"{_DIFFUSION}.ddim.DDIMSampler", "DDIM", "DDIMScheduler", eta="used"),
    "plms": SamplerEntry(
        f"{_DIFFUSION}.plms.PLMSSampler", "PLMS", "PNDMScheduler", eta="must be 0"
    ),
    "dpm_solver": SamplerEntry(
        f"{_DIFFUSION}.dpm_solver.DPMSolverSampler", "DPM++ 2M", "DPMSolverMultistepScheduler"
    ),
    "heun": _k(f"{_K}.HeunSampler", "Heun", "HeunDiscreteScheduler", calls=2),
    "euler": _k(f"{_K}.EulerSampler", "Euler", "EulerDiscreteScheduler"),
    "euler_a": _k(f"{_K}.EulerAncestralSampler", "Euler a", "EulerAncestralDiscreteScheduler"),
    "dpm2": _k(f"{_K}.DPM2Sampler", "DPM2", "KDPM2DiscreteScheduler", calls=2, schedule="karras"),
    "dpm2_a": _k(
        f"{_K}.DPM2AncestralSampler",
        "DPM2 a",
        "KDPM2AncestralDiscreteScheduler",
        calls=2,
        schedule="karras",
    ),
    "lms": _k(f"{_K}.LMSSampler", "LMS", "LMSDiscreteScheduler"),
    "deis": _k(f"{_K}.DEISSampler", "DEIS"),
    "dpmpp_2m": _k(f"{_PP}.DPMpp2MSampler", "DPM++ 2M", form="in noise levels", schedule="karras"),
    "dpmpp_2m_sde": _k(f"{_PP}.DPMpp2MSDESampler", "DPM++ 2M SDE", schedule="exponential"),
    "dpmpp_2m_sde_heun": _k(
        f"{_PP}.DPMpp2MSDEHeunSampler", "DPM++ 2M SDE Heun", schedule="exponential"
    ),
    "dpmpp_3m": _k(f"{_PP}.DPMpp3MSampler", "DPM++ 3M"),
    "dpmpp_3m_sde": _k(f"{_PP}.DPMpp3MSDESampler", "DPM++ 3M SDE", schedule="exponential"),
    "dpmpp_2s": _k(f"{_PP}.DPMpp2SSampler", "DPM++ 2S", calls=2),
    "dpmpp_2s_a": _k(f"{_PP}.DPMpp2SAncestralSampler", "DPM++ 2S a", calls=2, schedule="karras"),
    "dpmpp_sde": _k(f"{_PP}.DPMppSDESampler", "DPM++ SDE", calls=2, schedule="karras"),
    "unipc": _k(f"{_UNIPC}.UniPCSampler", "UniPC"),
    "unipc_bh2": _k(f"{_UNIPC}.UniPCBH2Sampler", "UniPC BH2", "UniPCMultistepScheduler"),
    "restart": _k(f"{_DIFFUSION}.restart.RestartSampler", "Restart", calls=2, schedule="karras"),
    "ddpm": SamplerEntry(f"{_DIFFUSION}.ancestral.AncestralSampler", "DDPM", "DDPMScheduler"),
    "lcm": SamplerEntry(f"{_DIFFUSION}.lcm.LCMSampler", "LCM", "LCMScheduler"),
    "tcd": SamplerEntry(f"{_DIFFUSION}.tcd.TCDSampler", "TCD", eta="used"),
}
_MADE_FOR = {"lcm": "latent consistency model", "tcd": "trajectory consistency model"}
FEW, LOW_SCALE = 8, 2.0
"""What these are made for, at most: steps, guidance scale."""


@dataclass(frozen=True)
class SpacingEntry:
    """A way to spread a walk's steps.

    Attributes:
        times: Import path of a rule (steps, T) -> timesteps that do not fall; empty where there is
            none.
        sigmas: Import path of a rule (steps, ``SigmaSchedule``) -> falling noise levels without the
            last one, 0; empty where there is none.
        label: Its name in metadata; empty means its key in the table.
        synonyms: Other programs' names of the same, in small letters.
        diffusers: The diffusers library's ``timestep_spacing``; empty where it has none.
        offered: Whether programs offer it as a choice.
    """

    times: str = ""
    sigmas: str = ""
    label: str = ""
    diffusers: str = ""
    offered: bool = True
    synonyms: tuple[str, ...] = ()


_TIMES, _SIGMAS = "ldm.process.spacing", "ldm.process.sigmas"
SPACINGS = {
    "uniform": SpacingEntry(
        f"{_TIMES}.uniform", f"{_SIGMAS}.even_times", diffusers="leading", synonyms=("normal",)
    ),
    "linspace": SpacingEntry(f"{_TIMES}.linspace", f"{_SIGMAS}.even_times", diffusers="linspace"),
    "trailing": SpacingEntry(
        f"{_TIMES}.trailing",
        f"{_SIGMAS}.trailing_times",
        diffusers="trailing",
        synonyms=("simple",),
    ),
    "quad": SpacingEntry(f"{_TIMES}.quad", offered=False),
    "quad_unique": SpacingEntry(f"{_TIMES}.quad_unique", offered=False),
    "karras": SpacingEntry(sigmas=f"{_SIGMAS}.karras", label="Karras"),
    "exponential": SpacingEntry(
        sigmas=f"{_SIGMAS}.exponential", label="Exponential", synonyms=("polyexponential",)
    ),
    "sgm_uniform": SpacingEntry(sigmas=f"{_SIGMAS}.sgm_uniform", label="SGM Uniform"),
    "beta": SpacingEntry(sigmas=f"{_SIGMAS}.beta", label="Beta"),
    "align_your_steps": SpacingEntry(
        sigmas=f"{_SIGMAS}.align_your_steps",
        label="Align Your Steps",
        synonyms=("ays"),
    ),
}


@dataclass(frozen=True)
class BetaScheduleEntry:
    """A noise schedule of training.

    Attributes:
        target: Import path of a rule (T, linear_start, linear_end, cosine_s) -> betas (T,).
        diffusers: What diffusers calls it; empty where it has none.
        by_ends: Whether its two end values define it, so that diffusers can rebuild it from them.
    """

    target: str
    diffusers: str = ""
    by_ends: bool = False


_BETAS = "ldm.process.schedules"
# CompVis's names: "linear" is linear in sqrt(beta).
BETA_SCHEDULES = {
    "linear": BetaScheduleEntry(f"{_BETAS}.linear_in_root", "scaled_linear", by_ends=True),
    "sqrt_linear": BetaScheduleEntry(f"{_BETAS}.linear", "linear", by_ends=True),
    "sqrt": BetaScheduleEntry(f"{_BETAS}.root_of_linear"),
    "cosine": BetaScheduleEntry(f"{_BETAS}.cosine", "squaredcos_cap_v2"),
}


def k_samplers() -> list[str]:
    """Return the names of the samplers that step in noise levels."""
    return [name for name, entry in SAMPLERS.items() if entry.karras]


def samplers_for(spacing: str) -> list[str]:
    """Return the names of the samplers that have a rule of this spacing for their steps."""
    rules = SPACINGS[spacing]
    return [name for name, e in SAMPLERS.items() if (rules.sigmas if e.karras else rules.times)]


FORM = "Sampler form"
"""The entry of our pictures that tells samplers with one label apart, see ``SamplerEntry.form``."""


def sampler_named(label: str, form: str | None, *, own: bool) -> str:
    """Return the sampler that metadata name.

    Args:
        label: A label of the table or diffusers' name, in letters of any case.
        form: What else our own pictures say of it, see ``SamplerEntry``.
        own: Whether this project drew the picture; others mean the last one of a label.

    Raises:
        KeyError: There is no such sampler.
    """
    known = {entry.diffusers.lower(): name for name, entry in SAMPLERS.items()}
    known |= {
        entry.label.lower(): name
        for name, entry in SAMPLERS.items()
        if not own or entry.form == (form or "") or not entry.form
    }
    return known[label.lower()]


def spacing_named(label: str) -> str:
    """Return the spacing that metadata name by a label, its key or another program's name.

    Raises:
        KeyError: There is no such spacing.
    """
    known = {}
    for name, entry in SPACINGS.items():
        known |= dict.fromkeys((name, (entry.label or name).lower(), *entry.synonyms), name)
    return known[label.lower()]


def check_walk(sampler: str, spacing: str, eta: float, eta_flag: str) -> None:
    """Check what a sampler takes beside it.

    Args:
        sampler: A name in ``SAMPLERS``.
        spacing: A name in ``SPACINGS``.
        eta: Noise that DDIM steps add.
        eta_flag: The flag that sets it.

    Raises:
        UserError: the sampler takes no such spacing, or no noise.
    """
    entry, fitting = SAMPLERS[sampler], samplers_for(spacing)
    if entry.eta == "must be 0" and eta != 0:
        raise UserError(
            f"{eta_flag} {eta} with --sampler {sampler} was given; {eta_flag.lstrip('-')} must be "
            f"0 for {entry.label}, which adds no noise; leave it out or use --sampler ddim"
        )
    if sampler not in fitting:
        raise UserError(
            f"--spacing {spacing} with --sampler {sampler} was given; {spacing} is for "
            f"{', '.join(fitting)}; use one of them or another --spacing"
        )


def notices_on_few_steps(sampler: str, steps: int, scale: float) -> list[str]:
    """Say, in one sentence, that lcm or tcd was asked for what its models are not made for."""
    if sampler not in _MADE_FOR or (steps <= FEW and scale <= LOW_SCALE):
        return []
    return [
        f"--sampler {sampler} is for a {_MADE_FOR[sampler]} or LoRA, 4 to {FEW} --ddim_steps and "
        f"--scale 1 to {LOW_SCALE:g}; {steps} steps at --scale {scale:g} were asked for"
    ]
