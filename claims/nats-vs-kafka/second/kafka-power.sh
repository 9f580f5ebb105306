# Of 2,000 messages that a broker as it comes has acknowledged with acks=all, how many are gone when
# the power goes: Kafka's own VerifiableProducer writes them to a file system of its own (ext4 on a
# loop device), whose image is copied as the disk has it while everything still runs; a second broker
# starts on the copy, and Kafka's own GetOffsetShell says what is there.
. "$(dirname "$0")/server.sh"
KAFKA_HEAP_OPTS=$SHORT_LIVED
[ "$(id -u)" = 0 ] || missing "root is needed to mount a file system"
command -v mkfs.ext4 >"$dir/mkfs" || missing "mkfs.ext4 is not here"
truncate -s 512M "$dir/disk"
mkfs.ext4 -q "$dir/disk"
mkdir "$dir/mounted"
mount -o loop "$dir/disk" "$dir/mounted" 2>"$dir/mount.log" || missing "no loop device can be mounted here"
mounted=$dir/mounted
mkdir "$mounted/data"
sync -f "$mounted"
kafka_broker "$mounted/data"
kafka org.apache.kafka.tools.VerifiableProducer --bootstrap-server "127.0.0.1:$at" --topic second \
    --max-messages 2000 --acks -1 >"$dir/out" 2>&1 || { tail -1 "$dir/out"; exit 1; }
acknowledged=$(grep -c '"name":"producer_send_success"' "$dir/out")
[ "$acknowledged" = 2000 ] || { echo "only $acknowledged of 2,000 were acknowledged"; exit 1; }
# The power goes: what the disk has not got by now it never gets.
cp --sparse=always "$dir/disk" "$dir/after"
kill -9 "$server"
wait "$server" 2>/dev/null || true
server=
umount "$mounted"
mount -o loop "$dir/after" "$mounted"
kafka_start
# A partition that has no leader yet is left out, and that is no loss: only `second:0:0` is one of all.
count=
for _ in 1 2 3 4 5 6 7 8; do
    kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "127.0.0.1:$at" --topic second \
        >"$dir/offsets" 2>"$dir/err" || true
    count=$(sed -n 's/^second:0:\([0-9][0-9]*\)$/\1/p' "$dir/offsets")
    if [ -n "$count" ]; then break; fi
    sleep 1
done
[ -n "$count" ] || { echo "no offset of second:0: $(tail -1 "$dir/err")"; exit 1; }
echo $((acknowledged - count))
