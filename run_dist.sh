#!/usr/bin/env bash
# Trains on several machines, one process per GPU. Run the same command again to resume.
#
#   ./run_dist.sh [OPTIONS] CONFIG [key=value ...]      on the machines listed in Hosts, over ssh
#   ./run_dist.sh [OPTIONS] CONFIG [key=value ...]      inside a SLURM allocation: on its nodes, over srun
#   ./run_dist.sh --nnodes 2 --node-rank 0 --master HOST CONFIG [key=value ...]      this machine's part, by hand
#
#   --hosts FILE        one machine per line: [USER@]NAME [address=ADDRESS] [slots=PROCESSES]; # starts a comment (Hosts
#                       here, else in the suite; a file given by this option is used in a SLURM allocation, too)
#   --dry-run           print the command for each machine and start nothing
#   --rsh COMMAND       runs a shell line on a machine, as COMMAND NAME LINE (ssh, without a password prompt; it drops
#                       a machine that does not respond for a minute)
#   --nproc N           processes per machine (its number of GPUs, or 1)
#   --port P            rendezvous port on the first machine (29500)
#   --address ADDRESS   where the others reach this machine, only when started by hand (its host name)
#   --max-restarts N    how often to restart from the last checkpoint after a process dies (3)
#
# Every machine needs the suite and its .venv at the same path. The current folder, which contains the run directory and
# which relative paths refer to, must be on a shared disk. A machine's part that receives SIGTERM or SIGUSR1 exits with
# status 75; tools/slurm_job.sh is a job that then requeues itself.
set -euo pipefail
suite=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$suite/tools/environment.sh"

usage() { sed -n '2,21s/^# \{0,1\}//p' "$suite/run_dist.sh"; }

hosts=''
rsh='ssh -tt -o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=4'
nproc='' port=29500 max_restarts=3 nnodes='' node_rank='' master='' address=''
dry_run=
while [[ ${1:-} == -* ]]; do
    case $1 in
        -h | --help) usage && exit ;;
        --dry-run) dry_run=1 && shift && continue ;;
        --hosts | --rsh | --nproc | --port | --max-restarts | --nnodes | --node-rank | --master | --address) ;;
        *) fail "there is no option $1; ./run_dist.sh --help lists them" ;;
    esac
    [ -n "${2:-}" ] || fail "$1 needs a value"
    name=${1#--} && printf -v "${name//-/_}" %s "$2" && shift 2
done
config=${1:-}
[ -n "$config" ] || fail "which recipe? for example ./run_dist.sh configs/kinetics/glore_resnet50_8x8.yaml"
[ -f "$config" ] || [ -f "$suite/$config" ] || fail "there is no recipe $config, neither here nor in $suite"
for number in nproc:1 port:1 max_restarts:0 nnodes:1 node_rank:0; do
    lowest=${number#*:} number=${number%:*}
    [ -z "${!number}" ] || is_number "${!number}" "$lowest" ||
        fail "--${number//_/-} must be a number, got ${!number} (a whole number of at least $lowest)"
done
[ "$port" -le 65535 ] || fail "--port must be a number, got $port (the highest port is 65535)"

# The host of $1, which may have the form USER@HOST or [IPV6] as in ssh and URLs; fails if it is not a host.
host_of() {
    local host=${1##*@}
    host=${host#[} host=${host%]}
    local name='^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$' ipv6='^[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*$'
    [[ ($host =~ $name || $host =~ $ipv6) && $1 != -* && $1 != @* ]] && echo "$host"
}
is_loopback() { [[ $1 == localhost || $1 == localhost.* || $1 == 127.* || $1 == ::1 ]]; }
for name in master address; do
    [ -n "${!name}" ] || continue
    host=$(host_of "${!name}") || fail "--$name must be a host name or an IP address, got ${!name}"
    printf -v "$name" %s "$host"
done

# The shell line for machine $1 of $2, at address $3, with $4 processes; $5 is the rendezvous host.
part_of_machine() {
    local part=(--nnodes "$2" --node-rank "$1" --address "$3" --master "$5" --port "$port" --max-restarts "$max_restarts")
    [ -z "$4" ] || part+=(--nproc "$4")
    shift 5
    local line
    line=$(printf '%q ' "$suite/run_dist.sh" "${part[@]}" "$@")
    printf 'cd %q && exec %s' "$PWD" "${line% }"
}

run_this_machine() {
    [ -n "$node_rank" ] && [ -n "$master" ] || fail "--nnodes also needs --node-rank (from 0) and --master (the first machine)"
    [ "$node_rank" -lt "$nnodes" ] || fail "--node-rank $node_rank is beyond --nnodes $nnodes (ranks start at 0)"
    forget_other_launchers
    find_python "" ""
    local processes=${nproc:-$(count_gpus)}
    share_cores "$processes"
    local endpoint=$master:$port
    [[ $master != *:* ]] || endpoint="[$master]:$port"
    local run=("$PYTHON" "$suite/tools/torchrun.py" --nnodes "$nnodes" --nproc-per-node "$processes"
        --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "$(basename "$config" .yaml)" --max-restarts "$max_restarts"
        --rdzv-conf "is_host=$((node_rank == 0))")
    if [ -n "$address" ]; then
        run+=(--local-addr "$address")
        local interface # use the address's own interface, because a host name may resolve to another
        interface=$(ip -oneline address show to "$address" 2>/dev/null | awk '{ print $2; exit }' || true)
        if [ -n "$interface" ]; then
            export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-=$interface}
        fi
    fi
    run+=("$suite/tools/train.py" -c "$@")
    if [ -n "$dry_run" ]; then printf '%q ' "${run[@]}" && echo && return; fi
    # Use a fresh store for every start. Machines count restarts independently, so in the store that torchrun shares by
    # default a restarted process may find the address of a dead one (pytorch/pytorch#135712).
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    exec "${run[@]}"
}

run_in_slurm() {
    local variable command
    local needed=(SLURM_NNODES)
    [ -n "$master" ] || needed+=(SLURM_JOB_NODELIST)
    for variable in "${needed[@]}"; do
        [ -n "${!variable:-}" ] ||
            fail "SLURM_JOB_ID is $SLURM_JOB_ID, but $variable is not set, so this is not an allocation; unset SLURM_JOB_ID"
    done
    is_number "$SLURM_NNODES" 1 || fail "SLURM_NNODES must be a whole number of at least 1, got $SLURM_NNODES"
    master=${master:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)} ||
        fail "scontrol cannot list the machines of SLURM_JOB_NODELIST=$SLURM_JOB_NODELIST; is this inside the allocation?"
    command=$(part_of_machine @node@ "$SLURM_NNODES" @name@ "$nproc" "$master" "$@")
    command=${command/@node@/\$SLURM_NODEID} command=${command/@name@/\$SLURMD_NODENAME} # only known on each node
    local run=(srun --nodes "$SLURM_NNODES" --ntasks-per-node 1 --cpu-bind=none --kill-on-bad-exit=1)
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || run+=(--cpus-per-task "$SLURM_CPUS_PER_TASK") # srun does not inherit it
    run+=(bash -c)
    if [ -n "$dry_run" ]; then echo "${run[*]} ${command@Q}" && return; fi
    exec "${run[@]}" "$command"
}

# Reads the hosts file into `names` (for ssh), `addresses` (for the other machines) and `slots`.
read_hosts() {
    [ -f "$hosts" ] && [ -r "$hosts" ] || fail "there is no hosts file $hosts (one machine per line); see ./run_dist.sh --help"
    local line words word name host address processes hosts_seen=' '
    while read -r line || [ -n "$line" ]; do
        line=${line#$'\xef\xbb\xbf'} # the byte order mark that Windows editors write
        read -r -a words <<<"${line%%#*}"
        [ ${#words[@]} -gt 0 ] || continue
        local wrong="$hosts: ${line@Q}: expected [USER@]NAME [address=ADDRESS] [slots=PROCESSES]"
        name=${words[0]} processes=$nproc
        host=$(host_of "$name") || fail "$wrong; $name is neither a host name nor an IP address"
        [[ $hosts_seen != *" $host "* ]] || fail "$hosts lists $host twice; slots=2 starts two processes on it"
        hosts_seen+="$host " address=$host
        for word in "${words[@]:1}"; do
            case $word in
                address=?*) address=$(host_of "${word#address=}") || fail "$wrong; ${word#address=} is not an address" ;;
                slots=?*) processes=${word#slots=} && is_number "$processes" 1 || fail "$wrong; slots counts from 1" ;;
                *) fail "$wrong" ;;
            esac
        done
        names+=("${name%"${name##*@}"}$host") # without the brackets of an IPv6 address, which ssh does not take
        addresses+=("$address") slots+=("$processes")
    done < <(tr '\r' '\n' <"$hosts") # lines of Windows files end with both
    [ ${#names[@]} -gt 0 ] || fail "$hosts lists no machine"
    local num_loopback=0
    for address in "${addresses[@]}"; do ! is_loopback "$address" || num_loopback=$((num_loopback + 1)); done
    [ "$num_loopback" -eq 0 ] || [ "$num_loopback" -eq ${#addresses[@]} ] ||
        fail "$hosts: the other machines cannot reach localhost; give this machine its name or address=ADDRESS"
}

run_over_ssh() {
    local names=() addresses=() slots=() rank pids=() status=0
    read_hosts
    local count=${#names[@]}
    [ -n "$dry_run" ] || command -v "${rsh%% *}" >/dev/null || fail "there is no program ${rsh%% *}; --rsh takes another"
    # However this script ends, it stops every machine's part: ssh -tt forwards the hang-up.
    trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for ((rank = 0; rank < count; rank++)); do
        local command
        command=$(part_of_machine "$rank" "$count" "${addresses[rank]}" "${slots[rank]}" "${addresses[0]}" "$@")
        if [ -n "$dry_run" ]; then echo "$rsh ${names[rank]} ${command@Q}" && continue; fi
        # shellcheck disable=SC2086  # --rsh may hold several words
        $rsh "${names[rank]}" "$command" </dev/null > >(sed -u "s/^/[${names[rank]}] /") 2>&1 &
        pids+=($!)
    done
    local ended pid left
    while [ ${#pids[@]} -gt 0 ] && [ "$status" -eq 0 ]; do # the first failure stops the others
        wait -n -p ended "${pids[@]}" || status=$?
        left=()
        for pid in "${pids[@]}"; do [ "$pid" = "$ended" ] || left+=("$pid"); done
        pids=("${left[@]}")
    done
    exit "$status"
}

if [ -n "$nnodes" ]; then
    run_this_machine "$@"
elif [ -n "${SLURM_JOB_ID:-}" ] && [ -z "$hosts" ]; then
    run_in_slurm "$@"
else
    if [ -z "$hosts" ] && [ ! -f Hosts ] && [ -f "$suite/Hosts" ]; then hosts=$suite/Hosts; fi
    hosts=${hosts:-Hosts}
    run_over_ssh "$@"
fi
