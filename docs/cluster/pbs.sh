#!/bin/bash
# A job of PBS (OpenPBS, PBS Pro) on one node: qsub docs/cluster/pbs.sh, in the folder of the sweep.
# Change what is marked CHANGE. Checked without a PBS: that it is a script, that its `msa` understands the command, and what
# it does with each exit code (tests/cluster/test_batch_files.py).
#PBS -N msa-mosi
#PBS -l select=1:ncpus=16:mem=64gb
#PBS -l walltime=08:00:00
#PBS -j oe
cd "$PBS_O_WORKDIR" || exit 2
source .venv/bin/activate   # CHANGE: the Python with msa-sweeps

# Ray's files and sockets on the node's own disk. A socket's path has at most 107 bytes, 68 of them Ray's.
export TMPDIR=/tmp/$(id -un)-${PBS_JOBID%%.*}
mkdir -p -m 700 "$TMPDIR" && [ -O "$TMPDIR" ] && [ ! -L "$TMPDIR" ] || exit 3

trap : TERM   # qdel says it to all processes: msa ends in order, and this script after it
# CHANGE: the command. PBS tells nobody when the job ends, so the time limit is repeated, a little shorter; and how many CPUs
# the job has, so that is the most trials at a time. On a storage that has begun the same command goes on.
msa sweep cpsl --data mosi.pkl --storage runs/mosi --trials 60 --max-concurrent 16 --time-limit 7h50m
code=$?
rm -rf "$TMPDIR"

# Out of time with work left: the next job goes on. CHANGE where this file lies elsewhere, or leave the line out.
if [ "$code" = 4 ]; then qsub docs/cluster/pbs.sh; fi
exit "$code"
