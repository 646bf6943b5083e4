#!/usr/bin/env bash
# shards.sh TIMEOUT: runs all cases, in as many processes side by side as there are
# processors, two at most: a case waits for most of its time. Each has networks of its
# own. What failed cases print comes at the end.
set -uo pipefail
cd "$(dirname "$0")"
timeout=$1 bin=../bin
shards=$(($(nproc) > 1 ? 2 : 1))

mkdir -p "$bin"
go test -c -o "$bin/e2e.test" . || exit 1
mapfile -t cases < <("$bin/e2e.test" -test.list '^Test')
echo "${#cases[@]} cases in $shards processes"

pids=()
trap 'kill -INT "${pids[@]}" 2>/dev/null; wait; exit 1' INT TERM
for ((i = 0; i < shards; i++)); do
	names=
	for ((j = i; j < ${#cases[@]}; j += shards)); do names+="${names:+|}${cases[j]}"; done
	"$bin/e2e.test" -test.timeout "$timeout" -test.run "^($names)\$" >"$bin/e2e-$i.log" 2>&1 &
	pids+=($!)
done
failed=0
for i in "${!pids[@]}"; do
	wait "${pids[i]}" || failed=1
	cat "$bin/e2e-$i.log"
done
exit "$failed"
