//! Programs of images: what they are given, what they may do, and what is left of them.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::fixture::noise;
use crate::published::Published;
use crate::screen::Screen;
use crate::shell::{Home, Outcome, eventually, run, text, wait};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};
use crate::users::{NOBODY, home_of_nobody};

const BUSYBOX: &str = "/bin/busybox";

/// The programs of busybox that the tests use.
const PROGRAMS: [&str; 18] = [
    "sh", "cat", "chown", "echo", "env", "id", "kill", "ls", "mkdir", "mknod", "mount", "pwd",
    "rm", "sleep", "stat", "touch", "true", "tty",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:app\n";

/// An image with busybox, and whatever else.
fn image_with(config: Value, more: &[Entry]) -> Built {
    let busybox = fs::read(BUSYBOX)
        .unwrap_or_else(|e| panic!("{BUSYBOX}: {e}: install Debian's package busybox-static"));
    let mut entries = vec![
        Entry::dir("bin"),
        Entry::file("bin/busybox", &busybox).mode(0o755),
        Entry::dir("etc"),
        Entry::file("etc/passwd", PASSWD),
        Entry::file("etc/group", GROUP),
        Entry::dir("root").mode(0o700),
        Entry::dir("home"),
        Entry::dir("home/app").owner(1000, 100),
        Entry::dir("tmp").mode(0o1777),
    ];
    entries.extend(PROGRAMS.map(|name| Entry::symlink(format!("bin/{name}"), "busybox")));
    entries.extend(more.iter().cloned());
    let (os, architecture) =
        ("linux", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" });
    let layer = tar(&entries);
    ImageBuilder::new()
        .platform(os, architecture, None)
        .config("config", config)
        .layer(&layer, Compression::Gzip)
        .build()
}

fn image(config: Value) -> Built {
    image_with(config, &[])
}

/// Root, a user with one ID, and a user with those of /etc/subuid.
fn homes() -> [(&'static str, Home); 3] {
    let many = home_of_nobody();
    let ids = many.path().join("ids");
    fs::write(&ids, format!("{NOBODY}:100000:65536\n")).unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let mut bind = many.command_of_root("mount");
        run(bind.arg("--bind").arg(&ids).arg(file)).succeeded();
    }
    [("root", Home::new()), ("one ID", home_of_nobody()), ("many IDs", many)]
}

/// Runs a script in an image.
fn script(home: &Home, flags: &[&str], image: &str, script: &str) -> Outcome {
    home.run(&[&["run"], flags, &[image, "sh", "-c", script]].concat())
}

/// A running program, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl std::ops::Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// Starts a script, and waits until it has said a first line.
fn started(
    home: &Home,
    flags: &[&str],
    image: &str,
    script: &str,
) -> (Running, BufReader<impl std::io::Read + use<>>) {
    let mut command = home.ocifs(&[&["run"], flags, &[image, "sh", "-c", script]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    (Running(child), reader)
}

/// A process and all below it that have not ended, and what they are called.
fn family(pid: u32) -> HashMap<u32, String> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        if fields[0] != "Z" {
            let name = head.split_once('(').unwrap().1.to_owned();
            all.insert(pid, (fields[1].parse::<u32>().unwrap(), name));
        }
    }
    let mut found = HashMap::new();
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        if let Some((_, name)) = all.get(&pid) {
            found.insert(pid, name.clone());
        }
        todo.extend(all.iter().filter(|(_, (above, _))| *above == pid).map(|(pid, _)| *pid));
    }
    found
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

/// The process of that name in a family.
fn member(family: &HashMap<u32, String>, name: &str) -> Pid {
    let found = family.iter().find(|(_, other)| *other == name);
    let (pid, _) = found.unwrap_or_else(|| panic!("no {name} in {family:?}"));
    Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap()
}

/// Checks that all of a family end.
#[track_caller]
fn all_end(family: &HashMap<u32, String>) {
    let left = || family.iter().filter(|(pid, _)| is_alive(**pid)).collect::<Vec<_>>();
    assert!(eventually(|| left().is_empty()), "left: {:?}", left());
}

#[test]
fn exit_codes_are_those_of_engines() {
    let mut foreign = fs::read(BUSYBOX).unwrap();
    foreign[18..20].copy_from_slice(&22u16.to_le_bytes());
    let more = [
        Entry::file("bin/plain", "#!/bin/sh\nexit 9\n"),
        Entry::file("bin/script", "#!/bin/sh\nexit 9\n").mode(0o755),
        Entry::file("bin/lost", "#!/usr/bin/lost\n").mode(0o755),
        Entry::file("bin/foreign", &foreign).mode(0o755),
    ];
    for (who, home) in homes() {
        let image = home.layout(&image_with(json!({ "Cmd": ["true"] }), &more));
        for (words, code, told) in [
            (&[][..], 0, ""),
            (&["sh", "-c", "exit 7"], 7, ""),
            (&["sh", "-c", "kill -9 $$"], 137, ""),
            (&["sh", "-c", "kill -TERM $$"], 143, ""),
            (&["script"], 9, ""),
            (&["nowhere"], 127, "nowhere: the image has no such program"),
            (&["/bin/nowhere"], 127, "/bin/nowhere: the image has no such program"),
            (&["/bin/plain"], 126, "it may not be run"),
            (&["/bin"], 126, "it is a directory"),
            (&["lost"], 126, "its interpreter /usr/bin/lost is not in the image"),
            (
                &["foreign"],
                126,
                "exec format error: it is a program for s390x, and this machine is",
            ),
        ] {
            let outcome = home.run(&[&["run", &image], words].concat());
            let is_told = match told {
                "" => outcome.stderr.is_empty(),
                told => outcome.stderr.contains(told) && outcome.stderr.lines().count() == 1,
            };
            assert!(outcome.code == code && is_told, "{who}: {words:?}: {outcome:?}");
        }
        for (flags, told) in [
            (&["-u", "nobody"][..], "the image has no user `nobody`"),
            (&["-u", "0:nothing"], "the image has no group `nothing`"),
            (&["-v", "/nowhere/at/all:/x"], "/nowhere/at/all: No such file"),
            (&["-v", "/etc"], "HOST:DIR"),
            (&["-w", "x"], "absolute"),
            (&["--entrypoint", ""], "names no program to start"),
            (&["--nonsense"], "unexpected argument"),
        ] {
            let outcome = home.run(&[&["run"], flags, &[&image]].concat());
            outcome.failed(125, &[told]);
        }
        home.run(&["run", "oci:nowhere"]).failed(125, &["nowhere"]);
        home.run(&["run", "-"]).failed(125, &["the input is the program's"]);
        home.is_quiet();
    }
}

/// Images without a shell, with nothing but one program.
#[test]
fn an_image_needs_nothing_but_the_program() {
    let busybox = fs::read(BUSYBOX).unwrap();
    let built = ImageBuilder::new()
        .config("config", json!({ "Entrypoint": ["/cat"] }))
        .layer(&tar(&[Entry::file("cat", &busybox).mode(0o755)]), Compression::Gzip)
        .build();
    for (who, home) in homes() {
        let image = home.layout(&built);
        let outcome = home.run(&["run", &image, "/proc/self/comm", "/etc/hostname"]);
        let host = fs::read_to_string("/etc/hostname").unwrap();
        assert_eq!((outcome.code, &*outcome.stdout), (0, &*format!("cat\n{host}")), "{who}");
    }
}

#[test]
fn what_is_run_is_what_image_and_flags_say() {
    let config = json!({
        "Entrypoint": ["echo", "entry"], "Cmd": ["cmd"], "Env": ["A=image", "B=image"],
        "WorkingDir": "/made/by/us", "User": "app",
        "Volumes": { "/made/for/data": {}, "/bin/sh": {}, "none": {} },
    });
    for (who, home) in homes() {
        let image = home.layout(&image(config.clone()));
        let has_groups = who != "one ID";
        let groups = if has_groups { " groups=10(wheel),100(users)" } else { "" };
        let app = format!("uid=1000(app) gid=100(users){groups}");
        for (flags, words, expected) in [
            (&[][..], &[][..], "entry cmd"),
            (&[], &["a", "-b", "--", "--c"], "entry a -b -- --c"),
            (&["--entrypoint", "pwd"], &[], "/made/by/us"),
            (&["--entrypoint", "ls"], &["-d", "/made/for/data"], "/made/for/data"),
            // What is typed with container engines, and is so anyway.
            (&["-it", "--rm"], &["a"], "entry a"),
            (&["--entrypoint", "pwd", "-w", "/other/../new"], &[], "/new"),
            (&["--entrypoint", "[\"echo\",\"list\"]"], &["x"], "list x"),
            (&["--entrypoint", ""], &["echo", "none"], "none"),
            (
                &["--entrypoint", "sh"],
                &["-c", "echo $A $B $HOME $PATH"],
                "image image /home/app /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            (
                &["--entrypoint", "sh", "-e", "A=flag", "-e", "SECRET", "-e", "UNSET"],
                &["-c", "echo $A $B $SECRET ${UNSET-unset}"],
                "flag image here unset",
            ),
            (&["--entrypoint", "id"], &[], &app),
            (&["--entrypoint", "id", "-u", "0"], &[], "uid=0(root) gid=0(root)"),
            (&["--entrypoint", "id", "-u", "7:8"], &[], "uid=7 gid=8"),
            (&["--entrypoint", "sh"], &["-c", "touch ~/x && stat -c %U:%G ~/x"], "app:users"),
        ] {
            let words = [&["run"], flags, &[&*image], words].concat();
            let outcome = run(home.ocifs(&words).env("SECRET", "here"));
            let said = outcome.stdout.trim_end();
            let is_right = said == expected
                // Which other groups there are is not ours to change there.
                || expected.starts_with("uid=") && said.starts_with(&format!("{expected} groups="));
            assert!(outcome.code == 0 && is_right, "{who}: {words:?}: {outcome:?}, not {expected}");
        }
    }
}

/// `unshare -Urm`: a root that can become no other user of its namespace.
#[test]
fn root_of_a_namespace_with_one_id_runs_programs() {
    let home = Home::new().with_prefix(&["unshare", "--user", "--map-root-user", "--mount"]);
    let image = home.layout(&image(json!({ "Cmd": ["id"], "User": "app" })));
    for (flags, expected) in
        [(&[][..], "uid=1000(app) gid=100(users)"), (&["-u", "0"], "uid=0(root) gid=0(root)")]
    {
        let outcome = home.run(&[&["run"], flags, &[&*image]].concat());
        assert!(outcome.code == 0 && outcome.stdout.starts_with(expected), "{outcome:?}");
    }
    let checked = home.run(&["doctor"]).stdout;
    assert!(checked.contains("a user namespace with one user ID"), "{checked}");
    home.is_quiet();
}

/// What a program has of its caller: its input and outputs, and TERM.
#[test]
fn nothing_of_the_caller_is_passed_on_unasked() {
    let config = json!({ "Cmd": ["sh"] });
    for (who, home) in homes() {
        let image = home.layout(&image(config.clone()));
        let mut command = home.command("sh");
        let program = home.ocifs(&[]);
        let program: Vec<&std::ffi::OsStr> =
            std::iter::once(program.get_program()).chain(program.get_args()).collect();
        let program = program.last().unwrap().to_str().unwrap().to_owned();
        let told = "exec 7</ 8>/dev/null; exec \"$1\" run \"$2\" sh -c 'env; ls /proc/self/fd; cat /proc/1/environ; \
                    cat /proc/1/mem; true'";
        command.args(["-c", told, "sh", &program, &image]).env("SECRET", "here").env("TERM", "vt7");
        let outcome = run(&mut command);
        assert!(outcome.code == 0 && !outcome.stdout.contains("here"), "{who}: {outcome:?}");
        let words: BTreeSet<&str> = outcome.stdout.lines().collect();
        assert!(words.contains("TERM=vt7") && words.contains("container=ocifs"), "{words:?}");
        // 3 is the directory that `ls` reads.
        let numbers: Vec<_> = words.iter().filter(|word| word.parse::<u32>().is_ok()).collect();
        assert_eq!(numbers, [&"0", &"1", &"2", &"3"], "{who}: {outcome:?}");
        assert!(outcome.stderr.contains("/proc/1/environ"), "{who}: {outcome:?}");
    }
}

#[test]
fn programs_may_not_do_what_root_of_the_machine_may() {
    for (who, home) in homes() {
        let image = home.layout(&image(json!({})));
        for (attempt, refused) in [
            ("mount -t tmpfs none /tmp", true),
            ("mknod /tmp/sda b 8 0", true),
            ("echo 1 > /proc/sys/kernel/printk", true),
            ("echo b > /proc/sysrq-trigger", true),
            ("test -s /proc/kcore && cat /proc/kcore > /dev/null", true),
            ("touch /sys/x", true),
            ("kill -9 1; kill -TERM 1; test -e /proc/1", false),
            ("echo > /dev/null && test -c /dev/tty && test -d /dev/pts && touch /dev/shm/x", false),
            ("echo x > /etc/resolv.conf && echo x > /etc/hosts && echo x > /etc/hostname", false),
            ("test $(ls /proc | grep -c '^[0-9]') -lt 9", false),
        ] {
            let before: Vec<_> = ["hosts", "hostname", "resolv.conf"]
                .map(|name| fs::read(Path::new("/etc").join(name)).ok())
                .into();
            let outcome = script(&home, &[], &image, attempt);
            assert_eq!(outcome.code != 0, refused, "{who}: {attempt}: {outcome:?}");
            let after: Vec<_> = ["hosts", "hostname", "resolv.conf"]
                .map(|name| fs::read(Path::new("/etc").join(name)).ok())
                .into();
            assert_eq!(before, after);
        }
        // Set-user-ID programs give nothing.
        let status = script(&home, &["-u", "app"], &image, "cat /proc/self/status").stdout;
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        home.is_quiet();
    }
}

/// By default in memory, and gone with the program; with `--upper` in a directory.
#[test]
fn what_is_written_is_scratch_or_kept() {
    for (who, home) in homes() {
        let image = home.layout(&image(json!({})));
        let change = "echo new > /root/f && echo more >> /etc/group && rm -r /home && mkdir /home && \
                      ls /home && cat /root/f && stat -c %a /";
        for _ in 0..2 {
            let outcome = script(&home, &[], &image, change);
            assert_eq!((outcome.code, &*outcome.stdout), (0, "new\n755\n"), "{who}: {outcome:?}");
        }
        let refused =
            script(&home, &["--read-only"], &image, "touch /x; touch /etc/hosts; touch /tmp/x");
        assert_ne!(refused.code, 0, "{who}: {refused:?}");
        assert_eq!(
            refused.stderr.matches("Read-only file system").count(),
            3,
            "{who}: {refused:?}"
        );

        let upper = home.path().join("home/upper");
        let flags = ["--upper", text(&upper)];
        assert_eq!(script(&home, &flags, &image, change).code, 0, "{who}");
        let again =
            script(&home, &flags, &image, "cat /root/f && tail -n1 /etc/group; ls /home; true");
        assert!(again.code == 0 && again.stdout.starts_with("new\n"), "{who}: {again:?}");
        assert!(again.stdout.lines().all(|line| line != "app"), "{who}: {again:?}");
        // One program at a time.
        let (mut child, _reader) = started(&home, &flags, &image, "echo started; exec sleep 600");
        script(&home, &flags, &image, "true").failed(125, &["in use by another"]);
        child.kill().unwrap();
        child.wait().unwrap();
        let is_free = || script(&home, &flags, &image, "true").code == 0;
        assert!(eventually(is_free), "{who}");
        // And one image.
        fs::remove_dir_all(home.path().join("layout")).unwrap();
        let other = home.layout(&image_with(json!({}), &[Entry::file("other", "")]));
        let outcome = script(&home, &flags, &other, "true");
        outcome.failed(125, &["was written over", "can't be used over another image"]);
        home.is_quiet();
    }
}

/// The marks of removed files are others.
#[test]
fn what_root_has_written_is_no_user_s() {
    let home = home_of_nobody();
    let image = home.layout(&image(json!({})));
    let upper = home.path().join("home/upper");
    let flags = ["--upper", text(&upper)];
    assert_eq!(script(&home, &flags, &image, "rm /etc/group").code, 0);
    let mut as_root = home.command_of_root(home.path().join("ocifs"));
    as_root.args(["run", "--upper", text(&upper), &image, "true"]);
    run(&mut as_root).failed(125, &["was written by a user"]);
    let folder = home.path().join("home");
    let outcome = script(&home, &["--upper", text(&folder)], &image, "true");
    outcome.failed(125, &["has other files in it"]);
}

#[test]
fn files_of_this_machine_are_shown_where_they_are_asked_for() {
    for (who, home) in homes() {
        let image = home.layout(&image_with(json!({}), &[Entry::symlink("link", "/etc/../data")]));
        let shared = home.path().join("home/shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("f"), "from here").unwrap();
        let owner = fs::metadata(home.path().join("home")).unwrap().uid();
        for path in [&shared, &shared.join("f")] {
            chown(path, Some(owner), Some(owner)).unwrap();
        }
        symlink("/etc/passwd", shared.join("out")).unwrap();
        let volume = |target: &str| format!("{}:{target}", text(&shared));
        let file = format!("{}:/etc/hosts:ro", text(&shared.join("f")));
        let (a, b, c) = (volume("/a/b/c"), volume("/link/x"), volume("/r:ro"));
        let flags = ["-v", &a, "-v", &b, "-v", &c, "-v", &file];
        let told = "cat /a/b/c/f /data/x/f /etc/hosts /r/f; echo written > /a/b/c/new; touch /r/no; \
                    echo x > /etc/hosts; cat /a/b/c/out | head -n1";
        let outcome = script(&home, &flags, &image, told);
        assert!(outcome.stdout.starts_with(&"from here".repeat(4)), "{who}: {outcome:?}");
        assert!(outcome.stdout.ends_with("root:x:0:0:root:/root:/bin/sh\n"), "{who}: {outcome:?}");
        assert_eq!(
            outcome.stderr.matches("Read-only file system").count(),
            2,
            "{who}: {outcome:?}"
        );
        assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "written\n", "{who}");
        assert_eq!(fs::metadata(shared.join("new")).unwrap().uid(), owner, "{who}");
        assert_eq!(fs::read_to_string(shared.join("f")).unwrap(), "from here", "{who}");
        home.is_quiet();
    }
}

/// Links of an image lead to its own files. What is mounted over is made there.
#[test]
fn no_link_of_an_image_leads_out_of_it() {
    for (who, home) in homes() {
        let victim = home.path().join("home/victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "mine").unwrap();
        let owner = fs::metadata(home.path().join("home")).unwrap().uid();
        chown(&victim, Some(owner), Some(owner)).unwrap();
        let up = format!("../../../../../../../..{}", text(&victim));
        for (links, workdir, ends) in [
            (
                &[("etc/resolv.conf", "file"), ("etc/hosts", "new"), ("etc/hostname", "f/g")][..],
                "/",
                0,
            ),
            (&[("dev", "")], "/", 0),
            (&[("sys", "")], "/", 0),
            (&[("proc", "")], "/", 0),
            (&[("proc", "proc"), ("dev", "dev"), ("sys", "sys")], "/", 0),
            (&[("work", "")], "/work/made", 0),
            (&[("bin/tool", "file")], "/", 0),
            (&[("etc/resolv.conf", "/dev/null/x")], "/", 0),
            (&[("loop", "loop")], "/loop", 125),
        ] {
            for start in [text(&victim), &up] {
                let entries: Vec<Entry> = links
                    .iter()
                    .map(|(name, target)| match *target {
                        "loop" => Entry::symlink(*name, "loop"),
                        target => Entry::symlink(*name, format!("{start}/{target}")),
                    })
                    .collect();
                let built = image_with(json!({ "WorkingDir": workdir }), &entries);
                let image = home.layout(&built);
                let target = format!("{}:/work/volume", text(&home.path().join("home")));
                let outcome =
                    script(&home, &["-v", &target], &image, "pwd; echo bad > /etc/hosts; true");
                assert_eq!(outcome.code, ends, "{who}: {links:?}: {outcome:?}");
                let names: Vec<_> =
                    fs::read_dir(&victim).unwrap().flatten().map(|e| e.file_name()).collect();
                assert_eq!(names, ["file"], "{who}: {links:?}");
                assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "mine");
                fs::remove_dir_all(home.path().join("layout")).unwrap();
            }
        }
        home.is_quiet();
    }
}

#[test]
fn signals_reach_the_program() {
    for (who, home) in homes() {
        let image = home.layout(&image(json!({})));
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::QUIT] {
            let told = format!(
                "trap 'echo got; exit 3' {}; echo started; while :; do sleep 0.05; done",
                signal.as_raw()
            );
            let (mut child, mut reader) = started(&home, &[], &image, &told);
            kill_process(front(&child), signal).unwrap();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!((line.as_str(), wait(&mut child)), ("got\n", 3), "{who}: {signal:?}");
        }
        let (mut child, _reader) = started(&home, &[], &image, "echo started; exec sleep 600");
        kill_process(front(&child), Signal::TERM).unwrap();
        assert_eq!(wait(&mut child), 143, "{who}");
        home.is_quiet();
    }
}

/// `nsenter` and `setpriv` have become it.
fn front(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Input and outputs are the caller's terminal, and Ctrl-C is told once.
#[test]
fn the_terminal_is_the_program_s() {
    let home = Home::new();
    let image = home.layout(&image(json!({})));
    let told = "trap 'echo interrupted $((n=n+1))' INT; test -t 0 && test -t 1 && echo ready; read x; echo \"read $x\"; \
                sleep 0.2; sleep 0.2; exit 5";
    // What is shown of the first use is not for this.
    assert_eq!(script(&home, &[], &image, "true").code, 0);
    let mut screen = Screen::start(&mut home.ocifs(&["run", &image, "sh", "-c", told]), (100, 20));
    screen.shows("ready");
    screen.press("words\n");
    screen.shows("read words");
    screen.press("\x03");
    screen.shows("interrupted 1");
    assert!(!screen.lines().join("\n").contains("interrupted 2"));
    assert_eq!(screen.ends(), 5);
    home.is_quiet();
}

/// However the front process ends, everything does.
#[test]
fn nothing_is_left_of_what_was_killed() {
    for (who, home) in homes() {
        let image = home.layout(&image(json!({})));
        let told = "(sleep 601 &) ; sleep 602 & echo started; exec sleep 603";
        for name in ["ocifs", "ocifs-guest", "ocifs-init", "sleep"] {
            let before = temporary_files();
            let (mut child, _reader) = started(&home, &[], &image, told);
            let mut family = HashMap::new();
            let has_all = || {
                family = self::family(child.id());
                family.values().filter(|name| *name == "sleep").count() == 3
            };
            assert!(eventually(has_all), "{family:?}");
            let killed = match name {
                "ocifs" => front(&child),
                name => member(&family, name),
            };
            kill_process(killed, Signal::KILL).unwrap();
            // Of the program, any process may have been killed.
            let code = if name == "sleep" { None } else { Some(wait(&mut child)) };
            match name {
                "ocifs" => assert_eq!(code, Some(-9), "{who}: {name}"),
                "ocifs-guest" | "ocifs-init" => assert_eq!(code, Some(137), "{who}: {name}"),
                _ => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
            }
            all_end(&family);
            assert_eq!(temporary_files(), before, "{who}: {name}");
            assert_eq!(home.mounts(), Vec::<std::path::PathBuf>::new(), "{who}: {name}");
        }
        home.is_quiet();
    }
}

/// Names in the folder of temporary files that are ours.
fn temporary_files() -> BTreeSet<std::ffi::OsString> {
    let names = fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.file_name());
    names
        .filter(|name| ["image", "root", "scratch", "files"].iter().any(|ours| name == ours))
        .collect()
}

/// The process that serves the image may die: the program reads on.
#[test]
fn a_dead_worker_is_replaced() {
    let home = Home::new();
    let image = home.layout(&image_with(json!({}), &[Entry::file("big", noise(3 << 20, 1))]));
    let told = "echo started; read x; cat /big | wc -c; cat /etc/group | head -n1";
    let mut command = home.ocifs(&["run", &image, "busybox", "sh", "-c", told]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    reader.read_line(&mut lines).unwrap();
    kill_process(member(&family(child.id()), "ocifs-worker"), Signal::KILL).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    for _ in 0..2 {
        reader.read_line(&mut lines).unwrap();
    }
    assert_eq!((wait(&mut child), &*lines), (0, "started\n3145728\nroot:x:0:\n"));
    home.is_quiet();
}

/// Orphans are reaped while the program runs, and end with it.
#[test]
fn orphans_are_reaped() {
    let home = Home::new();
    let image = home.layout(&image(json!({})));
    let told =
        "i=0; while [ $i -lt 20 ]; do (true &); i=$((i+1)); done; sleep 0.3; cat /proc/[0-9]*/stat";
    let outcome = script(&home, &[], &image, told);
    assert!(outcome.code == 0 && !outcome.stdout.contains(") Z "), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("(ocifs-init)").count(), 1, "{outcome:?}");
    // An orphan that stays does not keep the program's end from being seen.
    let outcome = script(&home, &[], &image, "(sleep 600 &); exit 4");
    assert_eq!(outcome.code, 4, "{outcome:?}");
    home.is_quiet();
}

/// With the layer's index known and nothing else in the cache, what is fetched are the spans that are read.
#[test]
fn a_start_fetches_what_it_reads() {
    let setup = Published::new(&image_with(json!({}), &[Entry::file("big", noise(12 << 20, 3))]));
    let first = setup.run(&["run"], &["true"]);
    assert_eq!(first.code, 0, "{first:?}");
    let (_, all) = setup.asked_of(&setup.layer());
    fs::remove_dir_all(setup.home.path().join("cache/v1/spans")).unwrap();
    assert_eq!(setup.run(&["run"], &["true"]).code, 0);
    let (requests, bytes) = setup.asked_of(&setup.layer());
    assert!(requests > 0 && bytes * 4 < all, "{bytes} of {all} in {requests}");
    // And nothing is fetched twice.
    assert_eq!(setup.run(&["run"], &["true"]).code, 0);
    assert_eq!(setup.asked_of(&setup.layer()), (0, 0));
    setup.home.is_quiet();
}

/// The limit is the namespace's own, so that it is set for nothing else here.
#[test]
fn a_machine_without_namespaces_for_users_says_what_helps() {
    let home = Home::new();
    let image = home.layout(&image(json!({})));
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all \"$@\"";
    let forbidden = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"];
    let home = home.with_prefix(&forbidden);
    let outcome = home.run(&["run", &image, "true"]);
    outcome.failed(
        125,
        &["namespaces for the program are not allowed here", "sysctl user.max_user_namespaces"],
    );
    assert!(home.path().join("cache/v1/layers").read_dir().is_err(), "something was fetched first");
    home.is_quiet();
}

#[test]
fn images_that_name_no_program_or_no_user() {
    let home = Home::new();
    let built = ImageBuilder::new()
        .config("config", json!({ "User": "none" }))
        .layer(&tar(&[Entry::file("f", "")]), Compression::Gzip)
        .build();
    let image = home.layout(&built);
    home.run(&["run", &image, "x"]).failed(125, &["the image has no user `none`"]);
    home.run(&["run", "-u", "0", &image]).failed(125, &["names no program to start"]);
    home.run(&["run", "-u", "0", &image, "x"]).failed(127, &["no such program"]);
}
