# Starts and stops a coordinator and workers for the checks; sourced, with $programs and $scratch set.

declare -A fleet_processes=()
fleet_port=7900
while (: <"/dev/tcp/127.0.0.1/$fleet_port") 2>/dev/null; do fleet_port=$((fleet_port + 1)); done

# Runs a flowpack command against the fleet's coordinator.
fleet() {
    "$programs/flowpack" "$@" --coordinator "http://127.0.0.1:$fleet_port" \
        --token-file "$scratch/token"
}

start_coordinator() {
    [ -e "$scratch/token" ] || (umask 077; head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$scratch/token")
    "$programs/flowpack-coordinator" serve --data "$scratch/state" \
        --listen "127.0.0.1:$fleet_port" --token-file "$scratch/token" \
        2>>"$scratch/coordinator.log" &
    fleet_processes[coordinator]=$!
    for _ in $(seq 200); do
        if fleet jobs >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "The coordinator did not start; its log:" >&2
    cat "$scratch/coordinator.log" >&2
    return 1
}

start_worker() { # start_worker NUMBER [OPTION...]
    "$programs/flowpack-worker" --coordinator "http://127.0.0.1:$fleet_port" \
        --token-file "$scratch/token" --slots 1 "${@:2}" 2>>"$scratch/worker-$1.log" &
    fleet_processes[worker-$1]=$!
}

wait_for_shards() { # wait_for_shards DATASET COUNT: until that many are in place
    for _ in $(seq 1200); do
        if [ "$(find "$1/shards" -name '*.fpk' 2>/dev/null | wc -l)" -ge "$2" ]; then return; fi
        sleep 0.05
    done
    echo "No shard number $2 in $1 after 60 s." >&2
    return 1
}

kill_fleet_member() { # kill_fleet_member NAME: as a power cut would
    kill -KILL "${fleet_processes[$1]}"
    wait "${fleet_processes[$1]}" 2>/dev/null || true
    unset "fleet_processes[$1]"
}

stop_fleet_member() { # stop_fleet_member NAME: it finishes what it has
    kill -TERM "${fleet_processes[$1]}"
    wait "${fleet_processes[$1]}" 2>/dev/null || true
    unset "fleet_processes[$1]"
}

stop_fleet() {
    local process
    for process in "${fleet_processes[@]}"; do kill -TERM "$process" 2>/dev/null || true; done
    for process in "${fleet_processes[@]}"; do wait "$process" 2>/dev/null || true; done
}
