#!/bin/sh
# The picture of README of the first screen of a page of claims: headless Chromium, as wide as the
# first picture is. Give another page and file to make another one.
set -eu
cd "$(dirname "$0")/.."
page=${1:-results/claims/kept/nats-vs-kafka/claims.html}
picture=${2:-docs/claims.png}
browser=${MSGBENCH_CHROMIUM:-chromium}
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
    --window-size=1280,770 "--screenshot=$PWD/$picture" "file://$PWD/$page" 2>/dev/null
size=$(wc -c <"$picture")
[ "$size" -lt 204800 ] || { echo "$picture is $size bytes; the bound is 200 KiB" >&2; exit 1; }
echo "$picture, $size bytes, of $page"
