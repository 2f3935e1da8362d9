# SPDX-License-Identifier: Apache-2.0
#
# For tests: runs a program as several processes of this machine, which talk
# through memory. Nothing listens but on the loopback device.

# mpi_run PROCESSES PROGRAM ARGUMENTS...
mpi_run() {
  local processes="$1"
  shift
  # Sockets lie in a folder whose path must be short.
  if [[ -z "${mpi_folder:-}" ]]; then
    mpi_folder=$(mktemp -d /tmp/mpi.XXXXXX)
    trap 'rm -rf "${mpi_folder}"' EXIT
  fi
  TMPDIR="${mpi_folder}" HOME="${mpi_folder}" mpirun --allow-run-as-root \
    --oversubscribe --bind-to none -n "${processes}" \
    --mca pml ob1 --mca btl self,vader --mca plm isolated \
    --mca oob_tcp_if_include lo "$@"
}
