#!/bin/bash
# A job of LSF on one node: bsub < docs/cluster/lsf.sh, in the folder of the sweep.
# Change what is marked CHANGE. Checked without an LSF: that it is a script, that its `msa` understands the command, and what
# it does with each exit code (tests/cluster/test_batch_files.py).
#BSUB -J msa-mosi
#BSUB -n 16
#BSUB -R "span[hosts=1]"
#BSUB -W 8:00
#BSUB -o msa-mosi-%J.out
# Exit code 4 is out of time with work left: LSF puts the job back into the queue, and it goes on.
#BSUB -Q "4"
source .venv/bin/activate   # CHANGE: the Python with msa-sweeps

# Ray's files and sockets on the node's own disk. A socket's path has at most 107 bytes, 68 of them Ray's.
export TMPDIR=/tmp/$(id -un)-$LSB_JOBID
mkdir -p -m 700 "$TMPDIR" && [ -O "$TMPDIR" ] && [ ! -L "$TMPDIR" ] || exit 3

trap : INT TERM   # bkill says them to all processes: msa ends in order, and this script after it
# CHANGE: the command. LSF tells nobody when the job ends, so the time limit is repeated, a little shorter; and how many CPUs
# the job has, so that is the most trials at a time. On a storage that has begun the same command goes on.
msa sweep cpsl --data mosi.pkl --storage runs/mosi --trials 60 --max-concurrent 16 --time-limit 7h50m
code=$?
rm -rf "$TMPDIR"
exit "$code"
