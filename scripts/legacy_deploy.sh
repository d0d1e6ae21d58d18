#!/usr/bin/env bash
# The script that deployer replaces, kept so that the demo and the benchmark can show what it does.
#
#   legacy_deploy.sh NEW_FILES APP_DIR PORT COMMAND...
#
# Faithful in all that matters: SIGTERM, two seconds, kill -9 to whoever still has the port, copy, nohup.
# Kinder in one thing: the original's `lsof -ti :PORT` also named, and killed, every local *client* of the port.
set -u
new_files=$1 app_dir=$2 port=$3
shift 3

listeners() { # the pids that listen on the port
    if command -v lsof >/dev/null; then
        lsof -ti "tcp:$port" -sTCP:LISTEN
    else # the same from /proc, for machines without lsof
        python3 - "$port" <<'PY'
import glob, os, sys

rows = [line.split() for name in glob.glob("/proc/net/tcp*") for line in open(name)]
inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == int(sys.argv[1])}
for fd in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(fd) in inodes:
            print(fd.split("/")[2])
    except OSError:
        pass
PY
    fi
}

listeners | xargs kill 2>/dev/null
sleep 2
listeners | xargs kill -9 2>/dev/null

cp -R "$new_files/." "$app_dir/"
cd "$app_dir" || exit 1
PORT=$port nohup "$@" >>app.log 2>&1 </dev/null &
echo "started pid $!"
