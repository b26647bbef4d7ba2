"""All checks, in the order in which `blindpairs doctor` prints them."""

import os
import shutil
from pathlib import Path

from blindpairs.defaults import WORK
from blindpairs.doctor.assets import demo_assets, weights, work_folder
from blindpairs.doctor.finding import Finding
from blindpairs.doctor.libraries import faiss_builds, image_formats, libraries
from blindpairs.doctor.machine import devices, machine
from blindpairs.doctor.mining import compiled_join, gpu_join
from blindpairs.doctor.probes import PROBES, probe


def examine(work: Path = WORK) -> list[Finding]:
    """Check libraries, devices, assets, weights and the work folder; takes as long as importing every library."""
    probed = probe(tuple(PROBES))
    return [
        *machine(),
        # A GPU that torch does not see may still exist: then NVIDIA's own tool is installed.
        *devices(probed["torch"], driver=shutil.which("nvidia-smi") is not None),
        *libraries(probed),
        *faiss_builds(probed),
        *image_formats(probed["PIL"]),
        compiled_join(probed["selfjoin"]),
        *gpu_join(probed["selfjoin.gpu"]),
        demo_assets(),
        *weights(os.environ),
        work_folder(work),
    ]
