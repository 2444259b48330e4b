#!/bin/bash
# Training on several machines: torchrun starts one process a GPU (or a machine, on CPUs), and each takes a part of every batch.
#   sbatch examples/train-on-slurm.sh --help      (or the arguments of `breastusai train detect`)
# Without Slurm, give the same torchrun command on each machine, with the name of the first for --rdzv-endpoint.
#SBATCH --job-name=breastusai-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A training that was ended goes on at its last finished epoch, so --requeue is safe.
exec srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node=4 --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d \
  --rdzv-endpoint="$first:29500" -m -- BreastUSAILib train detect "$@"
