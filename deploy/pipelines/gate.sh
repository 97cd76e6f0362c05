#!/bin/sh
# Waits until a gate is decided. Needs curl.
#
#   PENSTOCK_URL=http://penstock:8080 PENSTOCK_API_KEY=psk_... gate.sh chat-canary r42 3600
#
# Arguments: gate, release that is asked about, seconds to wait at most (3600).
# Exit: 0 pass, 1 fail, 2 undecided in time, 3 no data or invalid in time, 4 could not be asked.
set -u
gate=$1 release=$2 limit_s=${3:-3600}
url="${PENSTOCK_URL:?address of Penstock}/v1/gates/$gate/status?format=text&release=$release"
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
end=$(($(date +%s) + limit_s))
why="4 Penstock did not answer"

while :; do
    left_s=$((end - $(date +%s)))
    [ "$left_s" -gt 25 ] && left_s=25
    [ "$left_s" -lt 0 ] && left_s=0
    code=$(curl -sS -m 40 -o "$answer" -w '%{http_code}' \
        -H "Authorization: Bearer ${PENSTOCK_API_KEY:-}" "$url&wait=${left_s}s") || true
    case $code in
    200)
        read -r word text <"$answer"
        case $word in
        pass) echo "$text" && exit 0 ;;
        fail) echo "$text" && exit 1 ;;
        esac
        case $text in
        NO_DATA* | INVALID*) why="3 $text" ;;
        *) why="2 $text" ;;
        esac
        ;;
    # Away, busy or restarting: no verdict, and no reason to give up before the time is over.
    000 | 429 | 5??) why="4 Penstock answers $code" && sleep 2 ;;
    *) cat "$answer" >&2 && exit 4 ;;
    esac
    [ "$(date +%s)" -ge "$end" ] && break
done
echo "not decided within $limit_s s: ${why#? }" >&2
exit "${why%% *}"
