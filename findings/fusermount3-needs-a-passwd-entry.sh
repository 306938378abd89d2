#!/bin/sh
# fusermount3 3.14 does not mount for a user who has no row in /etc/passwd.
#
# Guess: fusermount3 is set-user-ID root and judges by the caller's numeric user ID and the owner of the mount point; a
# name is for /etc/mtab, which is a link to /proc nowadays, so it can do without one.
#
# Seen: "fusermount3: could not determine username", exit code 1, before /dev/fuse is opened. Containers that are
# given a bare number (`docker run --user 1234`, Kubernetes' runAsUser) have no such row, so no FUSE file system of
# theirs mounts, while mount(2) in a user namespace of the same user works.
#
# Needs: Debian 12, root, /dev/fuse, util-linux. Installs fuse3 3.14.0 in a temporary folder.
set -eu
user=61234
if getent passwd "$user" >/dev/null; then echo "user $user has a name here" >&2; exit 1; fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
apt-get -o APT::Sandbox::User=root download -qq fuse3=3.14.0-4 >/dev/null
dpkg -x fuse3_*.deb tools
helper=$folder/tools/bin/fusermount3
chown root "$helper"
chmod 4755 "$helper"
mkdir mnt
chown "$user" mnt
"$helper" --version
code=0
# Some machines let only root open the device: here every user may.
mknod -m 666 device c 10 229
unshare --mount sh -c 'mount --bind device /dev/fuse && exec "$@"' sh \
    setpriv --reuid="$user" --regid="$user" --clear-groups env _FUSE_COMMFD=1 "$helper" -- mnt >output 2>&1 || code=$?
cat output
test "$code" = 1
grep -q 'could not determine username' output
if findmnt -n mnt; then exit 1; fi
echo "as described"
