//! `--metrics`: what a scraper sees.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::containerd::Containerd;
use crate::kubelet::Kubelet;
use crate::plugin::{Plugin, START, block_on, image, log_of, need_root_and_fuse};
use crate::shell::{Home, eventually, eventually_within, text};
use crate::support::markdown::page as document;
use crate::support::registry::Registry;

fn page(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer
}

/// The sum of the samples that begin so.
fn value(page: &str, begin: &str) -> f64 {
    let samples = page.lines().filter(|line| line.starts_with(begin));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
fn what_happens_is_counted() {
    need_root_and_fuse();
    let (home, registry, image) = (Home::new(), Registry::start(), image("counted"));
    registry.add_image("app", "1", &image);
    let (socket, to) = (home.path().join("metrics"), home.path().join("c.sock"));
    let address = format!("unix:{}", text(&socket));
    let flags = ["--metrics", &address, "--fetch-content", "--containerd", text(&to)];
    let mut plugin = Plugin::start_with(&home, &flags);
    let before = page(&socket);
    assert_eq!(value(&before, "ocifs_snapshotter_snapshots{"), 0.0, "{before}");
    let mut containerd = Containerd::start(&home, &registry);
    let name = format!("{}/app:1", registry.addr());
    block_on(async { Kubelet::new(&containerd).await.pull(&name).await });
    let is_fetched = || value(&page(&socket), "ocifs_snapshotter_content_layers_total ") == 2.0;
    assert!(eventually_within(START * 2, is_fetched), "{}\n{}", page(&socket), log_of(&home));
    assert!(value(&page(&socket), "ocifs_network_receive_bytes_total{") > 0.0, "{}", page(&socket));
    for worker in home.workers() {
        rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    }
    let is_restarted = || value(&page(&socket), "ocifs_worker_restarts_total{") == 1.0;
    assert!(eventually(is_restarted), "{}", page(&socket));
    let page = page(&socket);
    for (begin, expected) in [
        ("ocifs_snapshotter_snapshots{kind=\"remote\"}", 2.0),
        ("ocifs_snapshotter_snapshots{kind=\"active\"}", 0.0),
        (
            "ocifs_snapshotter_request_seconds_count{method=\"Prepare\",outcome=\"already_exists\"}",
            2.0,
        ),
        (
            "ocifs_snapshotter_request_seconds_bucket{method=\"Prepare\",outcome=\"already_exists\",le=\"+Inf\"}",
            2.0,
        ),
        ("ocifs_snapshotter_layers_left_total ", 0.0),
        ("ocifs_snapshotter_content_bytes_total ", image.layer_sizes().iter().sum::<u64>() as f64),
        ("ocifs_snapshotter_content_failures_total ", 0.0),
        ("ocifs_snapshotter_credentials ", 0.0),
        ("ocifs_mount_up{", 1.0),
    ] {
        assert!(page.lines().any(|line| line.starts_with(begin)), "{begin} is not in {page}");
        assert_eq!(value(&page, begin), expected, "{begin}: {page}");
    }
    assert!(value(&page, "ocifs_snapshotter_request_seconds_sum{method=\"Prepare\"") > 0.0);
    // Exactly these are described.
    let document = document("docs/metrics.md").text;
    let described = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let printed = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let [described, printed] = [described.collect::<BTreeSet<&str>>(), printed.collect()];
    assert_eq!(described, printed);
    containerd.stop();
    plugin.stop();

    // Nothing is served, and that is told, where the address can't be had.
    let refused = home
        .command(env!("CARGO_BIN_EXE_ocifs-snapshotter"))
        .args(["--metrics", &format!("unix:{}/none/metrics", text(&home.path())), "--root"])
        .arg(home.path().join("other"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("none/metrics: No such file"), "{told}");
}
