# SPDX-License-Identifier: Apache-2.0
#
# For tests: runs a program as several processes of this machine, which talk
# through memory or TCP. Nothing listens but on the loopback device.

# Sockets lie in a folder whose path must be short.
mpi_prepare() {
  [[ -z "${mpi_folder:-}" ]] || return 0
  mpi_folder=$(mktemp -d /tmp/mpi.XXXXXX)
  trap 'rm -rf "${mpi_folder}"' EXIT
  # Instead of ssh HOST COMMAND. Daemons that share a folder for their sessions
  # crash one another now and then.
  cat >"${mpi_folder}/remote" <<'REMOTE'
#!/bin/bash
export TMPDIR="${TMPDIR}/$1"
mkdir -p "${TMPDIR}"
shift
exec bash -c "$*"
REMOTE
  chmod +x "${mpi_folder}/remote"
}

# mpi_run PROCESSES PROGRAM ARGUMENTS...
mpi_run() {
  local processes="$1"
  shift
  mpi_prepare
  TMPDIR="${mpi_folder}" HOME="${mpi_folder}" mpirun --allow-run-as-root \
    --oversubscribe --bind-to none -n "${processes}" \
    --mca pml ob1 --mca btl self,vader --mca plm isolated \
    --mca oob_tcp_if_include lo "$@"
}

# mpi_run_machines PROCESSES PROGRAM ARGUMENTS...: on as many machines as
# processes, as far as these and MPI know: each has a daemon of its own and an
# address of this machine, and they talk through TCP.
mpi_run_machines() {
  local processes="$1" hosts="" i
  shift
  mpi_prepare
  for ((i = 0; i < processes; i++)); do hosts+=",127.0.0.$((i + 2))"; done
  TMPDIR="${mpi_folder}" HOME="${mpi_folder}" mpirun --allow-run-as-root \
    --bind-to none -n "${processes}" --host "${hosts#,}" \
    --mca pml ob1 --mca btl self,tcp --mca btl_tcp_if_include lo \
    --mca plm_rsh_agent "${mpi_folder}/remote" \
    --mca oob_tcp_if_include lo "$@"
}
