#!/usr/bin/env bash
# Embed with an array of SLURM jobs. `embedstore slurm array` fills this file in; it can also be edited and given to
# `sbatch` by hand. Each job does its own share of the blocks: jobs may start at any time, fail, and be submitted
# again, also one by one (sbatch --array=3 FILE). What is committed is never done twice.
#SBATCH --job-name=embedstore
#SBATCH --array=1-4
#SBATCH --time=4:00:00
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --gres=gpu:1
##SBATCH --partition=NAME
##SBATCH --account=NAME
#SBATCH --output=embedstore-%A_%a.log
#SBATCH --open-mode=append
# A job that is preempted, or whose node fails, goes back into the queue, and goes on from what is committed.
#SBATCH --requeue
# Two minutes before the time limit embedstore is told to commit what it holds and to end (exit code 143).
#SBATCH --signal=B:TERM@120

# As many shares as --array has jobs. SLURM_ARRAY_TASK_COUNT would be wrong where only some are submitted again.
SHARES=4
SHARD="${SLURM_ARRAY_TASK_ID:?start this file with sbatch}/$SHARES"

# `exec`: the signal above reaches this process, which is then embedstore.
exec embedstore embed TASK --model MODEL --store STORE.zarr --device cuda --shard "$SHARD"
