#!/bin/sh
# Linux 6.18 wakes a process that polls /dev/fuse for each request, even if it polls for no event at all.
#
# Guess: poll(2) with events 0 waits for an error or a hang-up alone, so a process that holds a duplicate of a FUSE server's
# descriptor to hear of the unmount sleeps until then, whatever the server is asked meanwhile.
#
# Seen: the poll does not return, but its thread is switched to for each request that the server (bindfs 1.14.7)
# reads, twice or more for each of 2,000 calls of stat(2): the kernel wakes everything that waits with the connection, and poll looks
# and sleeps again. After umount(8) it returns with POLLERR.
#
# Needs: Linux 6.18, Debian 12, root, /dev/fuse, python3. Installs bindfs 1.14.7 in a temporary folder.
set -eu
folder=$(mktemp -d)
trap 'umount "$folder/mnt" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq bindfs=1.14.7-1 libfuse2 >/dev/null
for package in *.deb; do dpkg -x "$package" tools; done
mkdir tree mnt
python3 -c 'for n in range(2000): open(f"tree/{n}", "w").write("x")'
LD_LIBRARY_PATH=$(dirname "$(find "$folder/tools" -name 'libfuse.so.2*' | head -n 1)") "$folder/tools/usr/bin/bindfs" -f -o attr_timeout=0 -o entry_timeout=0 tree mnt &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do mountpoint -q mnt && break; sleep 0.5; done
mountpoint -q mnt
uname -r | cut -d. -f1,2
SERVER=$server python3 - <<'PY'
import ctypes, os, select, threading
libc = ctypes.CDLL(None, use_errno=True)
server = int(os.environ["SERVER"])
number = next(int(n) for n in os.listdir(f"/proc/{server}/fd") if os.readlink(f"/proc/{server}/fd/{n}") == "/dev/fuse")
PIDFD_GETFD = 438
device = libc.syscall(PIDFD_GETFD, os.pidfd_open(server), number, 0)
assert device >= 0, os.strerror(ctypes.get_errno())
returned, place = [], {}
def wait():
    place["task"] = threading.get_native_id()
    poll = select.poll()
    poll.register(device, 0)
    returned.append(poll.poll(60_000))
waiting = threading.Thread(target=wait)
waiting.start()
while "task" not in place: pass
def switches():
    text = open(f"/proc/self/task/{place['task']}/status").read()
    return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
before = switches()
for n in range(2000):
    os.stat(f"mnt/{n}")
woken = switches() - before
print(f"2000 calls of stat(2), which ask the server once or more; the poll was woken {woken} times and returned {len(returned)} times")
assert woken > 1000 and not returned
os.system("umount mnt")
waiting.join()
assert returned[0][0][1] & select.POLLERR
PY
wait "$server" || true
echo "as described"
