#!/usr/bin/env bash
# A real Slurm of one node, for tests and for trying `--executor slurm` out: no systemd, no cgroups, no accounting.
#
#   tools/slurm_node.sh start [--install] [DIR]    start it; prints the line that points other commands to it
#   tools/slurm_node.sh status [DIR]               its partitions and its queue
#   tools/slurm_node.sh stop [DIR]                 cancel its jobs and end its daemons
#
# DIR (default: /tmp/kempeframe-slurm) holds the configuration, logs and pid files; user munge must be able to reach it.
# Partitions: `normal`, and `scavenge`, whose jobs are requeued where a job of `normal` needs their CPU.
# It needs Debian's slurm-wlm and munge; --install gets them with apt-get. Run it as root.
set -euo pipefail

fail() { echo "slurm_node: $*" >&2; exit 1; }

command=${1:-}
[ $# -gt 0 ] && shift
install=
if [ "${1:-}" = --install ]; then install=yes; shift; fi
DIR=$(realpath -m "${1:-/tmp/kempeframe-slurm}")
export SLURM_CONF=$DIR/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin
NODE=$(hostname -s)

needed() {
    if [ -n "$install" ]; then
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >&2
    fi
    local program
    for program in slurmctld slurmd munged sinfo; do
        command -v "$program" >/dev/null || fail "$program is not installed (Debian: apt-get install slurm-wlm munge, or --install)"
    done
    [ "$(id -u)" = 0 ] || fail "must run as root: slurmd and munged change users"
    getent passwd munge >/dev/null || fail "there is no user munge"
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

configure() {
    mkdir -p "$DIR/munge" "$DIR/state" "$DIR/spool"
    chmod 755 "$DIR" "$DIR/munge"
    head -c 1024 /dev/urandom >"$DIR/munge/munge.key"
    chmod 600 "$DIR/munge/munge.key"
    chown -R munge: "$DIR/munge"
    runuser -u munge -- test -r "$DIR/munge/munge.key" || fail "user munge can't reach $DIR"
    # cred_expire: a requeued job waits that long before it may start again (120 s otherwise).
    # MinJobAge: an ended job stays visible to squeue that long; there is no accounting to ask for it.
    cat >"$SLURM_CONF" <<CONF
ClusterName=kempeframe
SlurmctldHost=$NODE(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd.log
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
OverTimeLimit=0
MinJobAge=300
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=normal Nodes=$NODE Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=$NODE MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
CONF
}

running() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

end() { # a daemon by its pid file
    running "$1" || return 0
    local pid
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
}

start() {
    needed
    running "$DIR/slurmctld.pid" && fail "it runs already: export SLURM_CONF=$SLURM_CONF"
    configure
    trap 'tail -n 5 "$DIR"/*.log "$DIR"/munge/*.log >&2 2>/dev/null; stop' EXIT
    runuser -u munge -- "$(command -v munged)" --socket="$DIR/munge/socket" --key-file="$DIR/munge/munge.key" \
        --pid-file="$DIR/munge/pid" --log-file="$DIR/munge/munged.log" --seed-file="$DIR/munge/seed"
    slurmctld -c
    slurmd -c
    for _ in $(seq 100); do
        if sinfo -h -o %T 2>/dev/null | grep -q idle; then
            trap - EXIT
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    fail "the node did not become idle within 20 s"
}

stop() {
    if running "$DIR/slurmctld.pid"; then
        scancel --state=PENDING --state=RUNNING --state=SUSPENDED --user=root 2>/dev/null || true
        for _ in $(seq 50); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
    fi
    end "$DIR/slurmd.pid"
    end "$DIR/slurmctld.pid"
    end "$DIR/munge/pid"
}

status() {
    running "$DIR/slurmctld.pid" || fail "it does not run in $DIR"
    sinfo
    squeue -o "%.10i %.10P %.20j %.10T %.8M %R"
    echo "export SLURM_CONF=$SLURM_CONF"
}

case $command in
start | stop | status) "$command" ;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
