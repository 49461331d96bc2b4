"""DPM-Solver++ under the path of the reference."""

from pkgutil import extend_path

from ldm.models.diffusion.dpm_solver.sampler import DPMSolverSampler

__path__ = extend_path(__path__, __name__)
__all__ = ["DPMSolverSampler"]
