"""Embed with dask workers that run as SLURM jobs, one process in each.

`embedstore slurm dask` fills this file in; it can also be edited by hand. Start it with `python` where jobs can be
submitted and where it may stay for hours (a login node in tmux, or a small job): the scheduler lives in it. Needs
`pip install 'embedstore[cluster]'`. Workers may join, end and die at any time; the same command goes on from what is
committed.
"""

import os
import sys

from dask_jobqueue.slurm import SLURMCluster

JOBS = 4
TIME = "4:00:00"
CPUS = 8
MEMORY = "64GiB"
GPUS = 1
PARTITION = None
ACCOUNT = None
# Workers end by themselves before the time limit, not all at once, so that no task is cut off.
LIFETIME = ["--lifetime", "13800s", "--lifetime-stagger", "300s"]
EMBED = ["embed", "TASK", "--model", "MODEL", "--store", "STORE.zarr", "--device", "cuda"]


def make_cluster() -> SLURMCluster:
    """Start a scheduler in this process; no job is submitted yet."""
    return SLURMCluster(
        cores=CPUS,
        processes=1,
        memory=MEMORY,
        walltime=TIME,
        queue=PARTITION,
        account=ACCOUNT,
        python=sys.executable,
        job_name="embedstore",
        # Told to the worker as text in its job script, where the node fills the variable in.
        local_directory="${TMPDIR:-/tmp}",
        job_extra_directives=[f"--gres=gpu:{GPUS}"] if GPUS else [],
        worker_extra_args=[*(["--resources", f"GPU={GPUS}"] if GPUS else []), *LIFETIME],
    )


def main() -> int:
    """Submit the jobs and embed."""
    from embedstore.cli import main as embedstore

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with make_cluster() as cluster:
        cluster.scale(jobs=JOBS)
        return embedstore([*EMBED, "--scheduler", cluster.scheduler_address])


if __name__ == "__main__":
    sys.exit(main())
