#!/bin/bash
# Training on several machines: torchrun starts one process a GPU (or a machine, on CPUs), and each takes a part of every batch.
#   sbatch examples/train-on-slurm.sh --data DATA/train DATA/validation --output MODEL --batch 8
# What follows the script are arguments of `breastusai train detect`. --batch must be a multiple of the processes, here 2 machines x 4 = 8;
# the recipe's own batch of 4 is refused. All machines must see the data, --output, --cache (without it: a folder in --output) and this
# installation under the same names, on a disk that they share.
# Without Slurm, give the same torchrun command on each machine, with the name of the first for --rdzv-endpoint.
#SBATCH --job-name=breastusai-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A training that was ended goes on at its last finished epoch, so --requeue is safe. Since Slurm 22.05 srun does not take over --cpus-per-task.
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun --nnodes="$SLURM_NNODES" --nproc-per-node=4 --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d \
  --rdzv-endpoint="$first:29500" -m -- BreastUSAILib train detect "$@"
