#!/bin/bash
# Thousands of studies on a Slurm cluster, by hand: this job keeps account, and starts the workers as jobs of its own.
#   sbatch examples/run-on-slurm.sh /data/studies /data/results
# All machines must see the inputs, the results and this installation under the same names. Submit it again after whatever end:
# it goes on where it stopped.
#SBATCH --job-name=breastusai
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --output=breastusai-%j.log
set -euo pipefail
exec breastusai run "$1" --output "$2" \
  --slurm 16 --slurm-cores 4 --slurm-memory 16GB --slurm-walltime 04:00:00 \
  --slurm-option=--partition=short \
  --time-limit 15m --memory-limit 12G --parquet --no-scene --progress lines
